"""One change of a target at a time: the kernel's lock on a file, with who holds it, why and since when in the file.

The lock belongs to an open file and ends with it: a session that dies leaves no lock behind, only a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from slipway.agent.files import as_resource_error
from slipway.agent.records import is_present, without_waiting
from slipway.errors import ResourceError

POLL_S = 0.1
LONGEST_RECORD = 4096  # characters; the file is ours, but anybody may have written to it


class TargetLock:
    """The lock of one target, held from `acquire` to `release`."""

    def __init__(self, path: Path, of: str) -> None:
        self._path, self._of = path, of
        self._file: TextIOWrapper | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._file is not None

    def acquire(self, owner: str, action: str, wait_s: float) -> None:
        """Take the lock, waiting up to `wait_s` seconds while another has it; makes the target's root.

        Raises ResourceError naming the other's action, owner and age, or why the file cannot be locked.
        """
        deadline = time.monotonic() + wait_s
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while (file := self._take()) is None:
                if time.monotonic() >= deadline:
                    raise ResourceError(
                        self._of,
                        f"busy: {described(self.holder())}",
                        f"to be free within {wait_s:.0f} s",
                        "let that end, then run again",
                    )
                time.sleep(POLL_S)
            record = {"owner": owner, "action": action, "pid": os.getpid(), "since": round(time.time(), 3)}
            file.truncate(0)
            file.write(json.dumps(record))
            file.flush()
        except OSError as err:
            raise as_resource_error(err) from err
        self._file = file

    def release(self) -> None:
        """Give the lock back; nothing when it is not held."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def holder(self) -> dict[str, Any] | None:
        """Who holds it now: `owner`, `action`, `pid`, `since` (seconds since 1970) as far as the file says; None when
        it is free. Takes no lock for longer than the look."""
        try:
            with open(self._path, encoding="utf-8", errors="replace", opener=without_waiting) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return _record(file.read(LONGEST_RECORD))
        except OSError:
            return None
        return None

    def _take(self) -> TextIOWrapper | None:
        """The file, open and locked; None while another has it."""
        if is_present(self._path) and not self._path.is_file():  # a folder cannot be locked, a pipe cannot be written
            expected, next_step = "a file", "remove it: a lock holds nothing, the kernel knows who has it"
            raise ResourceError(f"lock {self._path}", "no regular file", expected, next_step)
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):  # held, or removed since it was opened
            pass
        file.close()
        return None


def described(holder: dict[str, Any] | None) -> str:
    """A holder for a person: what it does, who it is, for how long."""
    if not holder:
        return "another process"
    since = holder.get("since")
    age = f", for {max(0, round(time.time() - since))} s" if isinstance(since, (int, float)) else ""
    return f"{holder.get('action', 'something')} by {holder.get('owner', 'somebody')}{age}"


def _record(text: str) -> dict[str, Any]:
    """The holder as it wrote itself down; empty when it has not yet, or the text is not its own."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
