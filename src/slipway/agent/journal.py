"""The journal of a transaction: what was about to be done and what was done, on the disk before and after each step.

    {"id": ..., "action": "promote", "owner": ..., "time": ..., "old": "0006-..." | null, "new": "0007-...",
     "created": true, "old_ran": true}
    {"step": "staged", "state": "begins"}
    {"step": "staged", "state": "done"}
    ...

The first line says what the transaction is about; the file is there for as long as it is open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.agent.files import disk_full_is_named, fsync_directory
from slipway.agent.history import PROMOTE, ROLLBACK
from slipway.agent.paths import NAME
from slipway.agent.records import Fields, is_present, parse_json_lines, read_text

STEPS = (
    "staged", "verified", "held", "started", "checked", "configured", "switched", "drained", "pointed", "recorded",
    "stopped", "done",
)  # fmt: skip
BEGINS, DONE = "begins", "done"
_WHAT = "journal of a transaction"
_MEND = "`slipway stop`, see which release `current` names, then delete it: the pointer is the truth"


@dataclass(frozen=True)
class Intent:
    """What a transaction is about: `new` takes the place of `old`. `created`: its release was made by it; `old_ran`: an
    engine of `old` ran when it began."""

    id: str
    action: str
    owner: str
    time: str
    old: str | None
    new: str
    created: bool
    old_ran: bool


class Journal:
    """`journal.jsonl` under a target's root. Writing is for whoever holds the target's lock."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def is_open(self) -> bool:
        """Whether a transaction is open, or was when its agent died."""
        return is_present(self._file)

    def begin(self, intent: Intent) -> None:
        """Open a transaction. Raises ResourceError when the disk is full."""
        self._append(asdict(intent))
        fsync_directory(self._file.parent)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step: written down as beginning before the block, as done after it. An error leaves it begun."""
        assert name in STEPS, name
        self._append({"step": name, "state": BEGINS})
        yield
        self._append({"step": name, "state": DONE})

    def close(self) -> None:
        """The transaction is over."""
        self._file.unlink(missing_ok=True)
        if self._file.parent.is_dir():
            fsync_directory(self._file.parent)

    def read(self) -> tuple[Intent, dict[str, str]] | None:
        """What is open, and the state of every step that was begun; None when nothing is. A last line that was cut off
        by a power cut counts as not written. Raises StateError when the file is no journal."""
        if not self.is_open():
            return None
        text = read_text(self._file, _WHAT, _MEND)
        whole = text[: text.rfind("\n") + 1]
        if not whole:
            return None
        thing = f"{_WHAT}: {self._file}"
        first, *rows = parse_json_lines(whole, thing, _MEND)
        steps = {}
        for number, row in enumerate(rows, 2):
            fields = Fields(row, f"{thing}, line {number}", _MEND)
            steps[fields.text("step", pattern="|".join(STEPS))] = fields.text("state", pattern=f"{BEGINS}|{DONE}")
        return _intent(first, f"{thing}, line 1"), steps

    def _append(self, row: Mapping[str, Any]) -> None:
        """One line, on the disk when this returns."""
        with disk_full_is_named(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _intent(row: Mapping[str, Any], thing: str) -> Intent:
    fields = Fields(row, thing, _MEND)
    return Intent(
        id=fields.text("id"),
        action=fields.text("action", pattern=f"{PROMOTE}|{ROLLBACK}"),
        owner=fields.text("owner"),
        time=fields.text("time"),
        old=fields.text("old", "") or None,
        new=fields.text("new", pattern=NAME),
        created=fields.flag("created"),
        old_ran=fields.flag("old_ran"),
    )
