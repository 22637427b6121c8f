"""The best release of a line: what every candidate of the line is held to, beside the champion.

Held to the champion alone, each release may lose a margin to the one before it, and a chain of them walks down. The
best release is the one whose verdict recorded the best value of the line's primary metric when it was gated; candidate
and best release are then evaluated again on today's test rows, in pairs. The record chooses, it proves nothing: test
sets differ between releases. What somebody rolled back from is no reference. `deployment.promotion` keeps it on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.deployment.history import engine_digits
from slipway.deployment.releases import Release, Releases
from slipway.system.json_files import is_present, read_json


@dataclass(frozen=True)
class Recorded:
    """The primary metric of a release as its verdict recorded it."""

    metric: str
    value: float
    lower_is_better: bool


@dataclass(frozen=True)
class BestRelease:
    """`departure`: which release since the best one the next candidate of the line would be, 2 or more."""

    release: Release
    departure: int


def best_of_line(releases: Releases, line: str, *, without: str = "") -> Release | None:
    """The best release of `line` on disk, the newest of equal ones; None where no verdict recorded a value.

    `without`: digest of an engine that is passed over, the candidate's own. Only releases with the primary metric of
    the newest one are compared. Raises StateError for a record that is damaged.
    """
    recorded = list(_recorded(releases, line, without))
    if not recorded:
        return None
    metric = recorded[-1][1].metric
    comparable = [(release, value) for release, value in recorded if value.metric == metric]
    best, _ = max(comparable, key=lambda pair: (_goodness(pair[1]), pair[0].name))
    return best


def best_beside(releases: Releases, line: str, candidate: str, champion: str | None) -> BestRelease | None:
    """The best release of `line` where that is another than the engine with digest `champion`, for a candidate whose
    engine has digest `candidate`. Raises StateError for a record that is damaged."""
    best = best_of_line(releases, line, without=candidate)
    if best is None or best.digests["engine"] == champion:
        return None
    promoted = [name for name in releases.history.line() if engine_digits(name) != candidate[:8]]
    since = len(promoted) - promoted.index(best.name) - 1 if best.name in promoted else 0
    return BestRelease(best, max(2, since + 1))


def recorded_quality(verdict: Mapping[str, Any]) -> Recorded | None:
    """The primary metric in a `verdict.json`; of one that was made before metrics were recorded the first floor's. None
    where nothing was measured."""
    for entry in verdict.get("measured", [])[:1]:
        if entry["value"] is not None:
            return Recorded(entry["name"], float(entry["value"]), entry["direction"] == "lower")
    for rule in verdict.get("rules", []):
        if rule["rule"] == "floor" and rule.get("value") is not None:
            return Recorded(rule["metric"], float(rule["value"]), rule.get("direction") == "at most")
    return None


def _recorded(releases: Releases, line: str, without: str) -> Iterator[tuple[Release, Recorded]]:
    """The releases of a line with their recorded values, oldest first."""
    withdrawn = releases.history.withdrawn()
    for name in releases.names():
        release = releases.read(name)
        file = Path(release.path) / "verdict.json"
        if release.model != line or release.digests["engine"] == without or engine_digits(name) in withdrawn:
            continue
        if not is_present(file):
            continue
        mend = f"put back a copy of it; or delete {file}: then this release is no reference for its line"
        value = recorded_quality(read_json(file, f"verdict of release {name}", mend))
        if value is not None:
            yield release, value


def _goodness(recorded: Recorded) -> float:
    return -recorded.value if recorded.lower_is_better else recorded.value
