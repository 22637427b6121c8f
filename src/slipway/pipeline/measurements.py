"""What stages took on this machine, for whoever predicts the next ones: `<store>/measurements.jsonl`, a line a stage
that was made.

A line that cannot be read (a cut write, another version's) is left out and counted: the record advises, and nothing
rests on it.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from slipway.system.files import disk_full_is_named
from slipway.system.locks import locked

FILE = "measurements.jsonl"


@dataclass(frozen=True)
class Figures:
    """Seconds of wall time, peak resident bytes of the stage process (0: not measured), bytes written to the store."""

    seconds: float
    peak_bytes: float
    disk_bytes: float


class Measurement(BaseModel):
    """One stage that was made: its title, what its work is counted in (`group`) and how much there was (`amount`), what
    it took, and what had been predicted (None: no figure then), `by` what (`formula`; empty: earlier runs). `machine`:
    host name and number of CPUs. `run`: what all stages of one run have in common; empty before runs were told apart.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str
    key: str
    group: str
    amount: float
    machine: str
    at: str
    measured: Figures
    predicted: Figures | None = None
    by: str = ""
    run: str = ""


@dataclass(frozen=True)
class Record:
    """The measurements of a store, oldest first, and how many lines of the file could not be read."""

    rows: list[Measurement]
    unreadable: int


def this_machine() -> str:
    """The machine that figures hold for: another host, or another number of CPUs, has its own."""
    return f"{platform.node()}, {len(os.sched_getaffinity(0))} CPUs"


def read_measurements(root: Path) -> Record:
    """All measurements of the store at `root`; none before the first."""
    try:
        lines = (root / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Record([], 0)
    rows = [row for line in lines if (row := _row(line))]
    return Record(rows, len(lines) - len(rows))


def add_measurement(root: Path, made: Mapping[str, object]) -> None:
    """Append one, given by the fields of Measurement without `at`; `machine` is this one where it is left out."""
    row = Measurement.model_validate({"machine": this_machine(), **made, "at": _now()})
    file = root / FILE
    with disk_full_is_named(file), locked(file.with_suffix(".lock"), 60.0, "measurements"), file.open("ab+") as out:
        cut = b"" if not _size(file) or _last_byte(file) == b"\n" else b"\n"
        out.write(cut + json.dumps(row.model_dump(mode="json")).encode() + b"\n")


def _row(line: str) -> Measurement | None:
    try:
        return Measurement.model_validate_json(line)
    except ValidationError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _size(file: Path) -> int:
    return file.stat().st_size


def _last_byte(file: Path) -> bytes:
    with file.open("rb") as read:
        read.seek(-1, os.SEEK_END)
        return read.read(1)
