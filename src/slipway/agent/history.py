"""The history of a target: every switch, oldest first, and what follows from it for rollbacks.

A rollback steps back along the line of releases that led to the serving one, and leaves the releases after it: their
engines count as withdrawn until a promotion brings them back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.agent.files import disk_full_is_named, write_atomic
from slipway.agent.paths import NAME
from slipway.agent.records import Fields, is_present, read_json_lines, utc_now
from slipway.errors import StateError

PROMOTE, ROLLBACK = "promote", "rollback"
_MEND = (
    "put back a copy of it; or delete it: the serving release stays, the others are deleted at the next promotion as "
    "releases that never served"
)


@dataclass(frozen=True)
class Switch:
    """One line of the history: when (UTC), by what (`promote` or `rollback`), to which release, in which transaction
    and on whose word; the last two are empty in lines of earlier versions."""

    time: str
    action: str
    release: str
    transaction: str = ""
    owner: str = ""


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
        return [_switch(row, f"{self._file}, line {n}") for n, row in enumerate(rows, 1)]

    def record(self, action: str, release: str, transaction: str = "", owner: str = "") -> Switch:
        """Append a switch, whole line or none. Raises ResourceError when the disk is full."""
        now = utc_now()
        switches = [*self.switches(), Switch(now, action, release, transaction, owner)]
        with disk_full_is_named(self._file):
            write_atomic(self._file, "".join(json.dumps(asdict(switch)) + "\n" for switch in switches))
        return switches[-1]

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
            if switch.action == PROMOTE:
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


def _switch(row: Mapping[str, Any], thing: str) -> Switch:
    fields = Fields(row, thing, _MEND)
    return Switch(
        fields.text("time"),
        fields.text("action", pattern=f"{PROMOTE}|{ROLLBACK}"),
        fields.text("release", pattern=NAME),
        fields.text("transaction", ""),
        fields.text("owner", ""),
    )
