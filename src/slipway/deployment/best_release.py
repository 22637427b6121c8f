"""The best release of a line: what every candidate of the line is held to, beside the champion.

Held to the champion alone, each release may lose a margin to the one before it, and a chain of them walks down. The
best release is the oldest on disk that no later one was shown to be better than, by the paired test of the later one's
own gate against it. The highest value on record would be the luckiest release: among fifty of equal worth it lies two
standard errors above the truth, or hides a loss as large. A verdict that was not compared with the best release (made
before there was one) counts by its recorded value. What somebody rolled back from is no reference.
`deployment.promotion` keeps the best release on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    better_than: Mapping[str, bool] = field(default_factory=dict)  # engine's digest -> whether that was shown


def best_of_line(releases: Releases, line: str, *, without: str = "") -> Release | None:
    """The best release of `line` on disk; None where no verdict recorded a value.

    `without`: digest of an engine that is passed over, the candidate's own. Only releases with the primary metric of
    the newest one are compared. Raises StateError for a record that is damaged.
    """
    recorded = list(_recorded(releases, line, without))
    if not recorded:
        return None
    metric = recorded[-1][1].metric
    best, best_record = next(pair for pair in recorded if pair[1].metric == metric)
    for release, record in recorded:
        if record.metric == metric and release.name > best.name and _better(record, best, best_record):
            best, best_record = release, record
    return best


def best_beside(releases: Releases, line: str, candidate: str, champion: str | None) -> Release | None:
    """The best release of `line` where that is another than the engine with digest `champion`, for a candidate whose
    engine has digest `candidate`. Raises StateError for a record that is damaged."""
    best = best_of_line(releases, line, without=candidate)
    return None if best is None or best.digests["engine"] == champion else best


def recorded_quality(verdict: Mapping[str, Any]) -> Recorded | None:
    """The primary metric in a `verdict.json`; of one that was made before metrics were recorded the first floor's. None
    where nothing was measured."""
    for entry in verdict.get("measured", [])[:1]:
        if entry["value"] is not None:
            compared = {c["engine"]: bool(c["better"]) for c in verdict.get("compared", {}).values() if c["engine"]}
            return Recorded(entry["name"], float(entry["value"]), entry["direction"] == "lower", compared)
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


def _better(record: Recorded, best: Release, best_record: Recorded) -> bool:
    shown = record.better_than.get(best.digests["engine"])
    if shown is not None:
        return shown
    sign = -1 if record.lower_is_better else 1
    return sign * record.value > sign * best_record.value
