"""What a resumable job has finished: one JSON line a tensor, after a first line that says what the job is.

A job goes on only if it is the same job: tool version, parameters, base, adapter and calibration data. A line cut short
by a kill is cut off, so is all that follows a line that is none (a disk that lost power); the recorded digests are
checked against the bytes, so nothing here needs to be flushed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from slipway.errors import ConfigError, ResourceError
from slipway.system.locks import holder, lock_open_file

RESUME_FILE = "resume.jsonl"


class Journal:
    """The journal at `file`; `identity` is the job's. Raises ConfigError when it belongs to another job, ResourceError
    while another process works on it."""

    def __init__(self, file: Path, identity: Mapping[str, Any]) -> None:
        self.digests: dict[str, str] = {}
        self._file, self._lock = file.open("a", buffering=1, encoding="utf-8"), threading.Lock()
        try:
            _take(file, self._file)
            lines, size = _lines(file)
            if lines:
                _same_job(file, lines[0], identity)
                self.digests = {line["tensor"]: line["sha256"] for line in lines[1:]}
            self._file.truncate(size)  # a line cut short must not run into the next
            if not lines:
                self._write(identity)
        except BaseException:
            self._file.close()
            raise

    def record(self, name: str, digest: str) -> None:
        """Add a finished tensor and the sha256 of its bytes; from any thread."""
        self._write({"tensor": name, "sha256": digest})

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(dict(line)) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _take(path: Path, file: IO[str]) -> None:
    """Locked until it is closed, or its process ends."""
    if not lock_open_file(file):
        raise ResourceError(
            f"unfinished work in {path.parent}",
            f"in use by {holder(path)}",
            "one process at a time",
            "wait for it to end, or stop it",
        )


def _lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines at the beginning, and their bytes."""
    recorded: list[dict[str, Any]] = []
    size = 0
    for line in file.read_bytes().splitlines(keepends=True):
        parsed = _parsed(line)
        if parsed is None or (recorded and not {"tensor", "sha256"} <= parsed.keys()):
            break
        recorded.append(parsed)
        size += len(line)
    return recorded, size


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _same_job(file: Path, recorded: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(dict(identity)))
    for key in sorted(recorded.keys() | wanted.keys()):
        if recorded.get(key) != wanted.get(key):
            raise ConfigError(
                f"unfinished work in {file.parent}",
                f"made with {key} = {recorded.get(key)}",
                f"{key} = {wanted.get(key)} to go on",
                f"delete {file.parent} to start anew, or run with what it was started with",
            )
