"""Where the time of a run went: a table of its rooms, and of the files that took longest.

busy   the sum of what its tests took, set-up and clean-up with them; processes work beside one another
span   from the start of its first test to the end of its last, as a clock on the wall shows it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

FILES = 15


class Report(Protocol):
    """A phase of a test, as pytest and pytest-xdist report it."""

    nodeid: str
    start: float
    stop: float


@dataclass(frozen=True)
class Times:
    """What some tests took together, in seconds."""

    tests: int
    busy: float
    span: float


def lines(reports: Iterable[Report]) -> list[str]:
    """The table as lines: a room each, then the files that took longest."""
    reports = list(reports)
    rooms, files = grouped(reports, parts=2), grouped(reports, parts=None)
    slowest = sorted(files, key=lambda name: files[name].busy, reverse=True)[:FILES]
    head = f"{'room':12}{'tests':>7}{'busy s':>9}{'span s':>9}"
    return [
        head,
        *(f"{name:12}{t.tests:>7}{t.busy:>9.0f}{t.span:>9.0f}" for name, t in rooms.items()),
        f"{'busy s':>7}{'span s':>9}{'tests':>7}  file",
        *(f"{t.busy:>7.1f}{t.span:>9.1f}{t.tests:>7}  {name}" for name in slowest for t in [files[name]]),
    ]


def grouped(reports: Iterable[Report], parts: int | None) -> dict[str, Times]:
    """What tests took by the first `parts` of their files' paths (None: by their files), in the order of names."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        path = report.nodeid.partition("::")[0].split("/")
        groups.setdefault("/".join(path[:parts]), []).append(report)
    return {
        name: Times(
            tests=len({report.nodeid for report in group}),
            busy=sum(report.stop - report.start for report in group),
            span=max(report.stop for report in group) - min(report.start for report in group),
        )
        for name, group in sorted(groups.items())
    }
