"""Prompts that were captured: stored only where a person turned it on, redacted, for a time and in a size.

    <root>/capture/on.json               what was turned on: since when, by whom, days, megabytes; absent: off
    <root>/capture/prompts-<time>.jsonl  `{"at", "redacted", "request"}` a line, mode 0600 in a folder of mode 0700

A file takes a tenth of the days and of the size, then the next begins; the oldest are deleted when they are older than
`days` or all together larger than `megabytes`, at every new file and whenever somebody looks. `off` stops storing and
keeps what is there; `off` with `forget` deletes it. Of a request is kept what makes the answer: messages, tools,
sampling. Answers are not stored.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.canary.redaction import redact_tree
from slipway.agent.files import write_atomic
from slipway.agent.records import Fields, is_present, read_json, read_json_lines, utc_now

STATE = "on.json"
KEPT = ("messages", "prompt", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "stop", "response_format")
PARTS = 10
_NEXT = "`slipway capture off TARGET`, then on again"


@dataclass(frozen=True)
class CaptureRule:
    """What a person turned on: `days` and `megabytes` are the most that is kept."""

    days: float
    megabytes: float
    since: str = ""
    by: str = ""


class CapturedPrompts:
    """The folder `capture` of one target."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Path | None = None

    def rule(self) -> CaptureRule | None:
        """What is turned on; None when capture is off. Raises StateError for a damaged record."""
        state = self._folder / STATE
        if not is_present(state):
            return None
        fields = Fields(read_json(state, "capture", _NEXT), f"capture: {state}", _NEXT)
        return CaptureRule(fields.number("days"), fields.number("megabytes"), fields.text("since"), fields.text("by"))

    def turn_on(self, days: float, megabytes: float, by: str) -> CaptureRule:
        """From now on prompts are stored."""
        rule = CaptureRule(days, megabytes, utc_now(), by)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        write_atomic(self._folder / STATE, json.dumps(rule.__dict__, indent=1) + "\n")
        return rule

    def turn_off(self, *, forget: bool = False) -> int:
        """No prompt is stored any more; with `forget` those that were are deleted. How many files that were."""
        (self._folder / STATE).unlink(missing_ok=True)
        files = self.files() if forget else []
        for file in files:
            file.unlink(missing_ok=True)
        return len(files)

    def files(self) -> list[Path]:
        """The files of prompts, oldest first."""
        return sorted(self._folder.glob("prompts-*.jsonl")) if self._folder.is_dir() else []

    def keep(self, request: dict[str, Any]) -> None:
        """Store one request, redacted; nothing when capture is off. Raises OSError when it cannot be written."""
        rule = self.rule()
        if rule is None:
            return
        plain, count = redact_tree({key: request[key] for key in KEPT if key in request})
        now = utc_now()
        line = json.dumps({"at": now, "redacted": count, "request": plain}) + "\n"
        descriptor = os.open(self._open_file(rule), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(line)

    def prune(self, rule: CaptureRule) -> int:
        """Delete what is too old or too much; how many files."""
        files, oldest = self.files(), time.time() - rule.days * 86400
        doomed = [file for file in files if file.stat().st_mtime < oldest]
        left = [file for file in files if file not in doomed]
        while len(left) > 1 and sum(file.stat().st_size for file in left) > rule.megabytes * 1e6:
            doomed.append(left.pop(0))
        for file in doomed:
            file.unlink(missing_ok=True)
        return len(doomed)

    def read(self, most: int) -> list[dict[str, Any]]:
        """The newest `most` records, oldest first. Raises StateError for a damaged line but the last, which may be
        half written."""
        records: list[dict[str, Any]] = []
        for file in reversed(self.files()):
            if len(records) >= most:
                break
            records = [*read_json_lines(file, "captured prompts", _NEXT, appended=True), *records]
        return records[-most:]

    def status(self) -> dict[str, Any]:
        """Whether it is on, its rule, and how much is stored; what is too old is deleted first."""
        rule = self.rule()
        if rule is not None:
            self.prune(rule)
        files = self.files()
        size = sum(file.stat().st_size for file in files)
        return {"on": rule is not None, **(rule.__dict__ if rule else {}), "files": len(files), "bytes": size}

    def _open_file(self, rule: CaptureRule) -> Path:
        """The file to append to, a new one when that is full or old."""
        if self._file is not None and self._file.exists():
            made = int(self._file.stem.split("-")[1]) / 1e3
            full = self._file.stat().st_size > rule.megabytes * 1e6 / PARTS
            if not full and time.time() - made < rule.days * 86400 / PARTS:
                return self._file
        self.prune(rule)
        self._file = self._folder / f"prompts-{int(time.time() * 1e3):015d}.jsonl"
        return self._file
