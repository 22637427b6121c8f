"""The history of a target: every switch, oldest first, and what follows from it for rollbacks.

A rollback steps back along the line of releases that led to the serving one, and leaves the releases after it: their
engines count as withdrawn until a promotion brings them back.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.errors import StateError
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.json_files import as_model, is_present, read_json_lines

NAME = r"\d{4,}-[0-9a-f]{8}"
Action = Literal["promote", "rollback"]
_MEND = (
    "put back a copy of it; or delete it: the serving release stays, the others are deleted at the next promotion as "
    "releases that never served"
)


class Switch(BaseModel):
    """One line of the history: when (UTC), by what, to which release."""

    model_config = ConfigDict(frozen=True)

    time: str
    action: Action
    release: str = Field(pattern=f"^{NAME}$")


class History:
    """`history.jsonl` under a target's root."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def switches(self) -> list[Switch]:
        """Every switch, oldest first; empty before the first. Raises StateError naming the line that is none."""
        if not is_present(self._file):
            return []
        rows = read_json_lines(self._file, "history of the target", _MEND)
        if not rows:  # it is written with its first line, never before
            raise StateError(f"history of the target: {self._file}", "empty", "one line a switch", _MEND)
        return [as_model(Switch, row, f"{self._file}, line {n}", _MEND) for n, row in enumerate(rows, 1)]

    def record(self, action: Action, release: str) -> None:
        """Append a switch, whole line or none. Raises ResourceError when the disk is full."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        switches = [*self.switches(), Switch(time=now, action=action, release=release)]
        with disk_full_is_named(self._file):
            write_atomic(self._file, "".join(json.dumps(switch.model_dump()) + "\n" for switch in switches))

    def line(self) -> list[str]:
        """The releases that led to the serving one, oldest first: a rollback steps back and drops what it left."""
        return self._walk()[0]

    def withdrawn(self) -> set[str]:
        """First 8 digits of the engine digests that a rollback left and no promotion brought back since."""
        return self._walk()[1]

    def _walk(self) -> tuple[list[str], set[str]]:
        line: list[str] = []
        withdrawn: set[str] = set()
        for number, switch in enumerate(self.switches(), 1):
            if switch.action == "promote":
                line.append(switch.release)
                withdrawn.discard(engine_digits(switch.release))
                continue
            if switch.release not in line:
                where = f"{self._file}, line {number}"
                raise StateError(where, f"rollback to {switch.release}", "a release promoted in a line before", _MEND)
            after = line.index(switch.release) + 1
            withdrawn |= {engine_digits(name) for name in line[after:]}
            del line[after:]
        return line, withdrawn


def engine_digits(release: str) -> str:
    """The first 8 hex digits of the engine's digest, which end a release's name."""
    return release.rsplit("-", 1)[-1]
