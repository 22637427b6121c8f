"""The best release of a line: what every candidate of the line is held to, beside the champion.

Held to the champion alone, each release may lose a margin to the one before it, and a chain of them walks down. The
best release is the oldest on disk that no later one was shown to be better than, by the paired test of the later one's
own gate against it. The highest value on record would be the luckiest release: among fifty of equal worth it lies two
standard errors above the truth, or hides a loss as large. A verdict that was not compared with the best release (made
before there was one) counts by its recorded value. What somebody rolled back from is no reference.
Promotions and `slipway gc` keep the best release of every line on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.agent.history import engine_digits
from slipway.deployment.releases import Release
from slipway.deployment.target import TargetClient, damaged_in, status_of
from slipway.errors import SlipwayError, StateError
from slipway.system.json_files import as_model

VERDICT = "verdict.json"


@dataclass(frozen=True)
class Recorded:
    """The primary metric of a release as its verdict recorded it."""

    metric: str
    value: float
    lower_is_better: bool
    better_than: Mapping[str, bool] = field(default_factory=dict)  # engine's digest -> whether that was shown


@dataclass(frozen=True)
class Shelf:
    """The releases on a target, oldest first, with their verdicts by name where they have one; `withdrawn`: the first
    digits of the engines that were rolled back from; `damaged`: what each release says that is no reference because its
    record or verdict cannot be read, by its name."""

    releases: tuple[Release, ...]
    verdicts: Mapping[str, Mapping[str, Any]]
    withdrawn: frozenset[str]
    damaged: Mapping[str, str] = field(default_factory=dict)


def shelf_of(target: TargetClient) -> Shelf:
    """What a target's agent says of its releases. Raises StateError for a damaged record that decides (`status_of`);
    one of a release that does not serve makes this no reference for its line, and is in `damaged`."""
    now = status_of(target)
    releases = tuple(
        as_model(Release, record, f"record of release {record['name']}", "promote its engine again")
        for record in now["releases"]
    )
    verdicts = {}
    damaged = {row["release"]: str(SlipwayError.from_json(row["error"])) for row in damaged_in(now)}
    for release in releases:
        request = {"release": release.name, "document": VERDICT, "optional": True}
        try:
            text = target.call("document", request)["text"]
            if text is not None:
                verdicts[release.name] = _parsed(text, release)
        except StateError as err:
            damaged[release.name] = str(err)
    return Shelf(releases, verdicts, frozenset(now["withdrawn"]), damaged)


def best_of_line(shelf: Shelf, line: str, *, without: str = "") -> Release | None:
    """The best release of `line` on disk; None where no verdict recorded a value.

    `without`: digest of an engine that is passed over, the candidate's own. Only releases with the primary metric of
    the newest one are compared.
    """
    recorded = list(_recorded(shelf, line, without))
    if not recorded:
        return None
    metric = recorded[-1][1].metric
    best, best_record = next(pair for pair in recorded if pair[1].metric == metric)
    for release, record in recorded:
        if record.metric == metric and release.name > best.name and _better(record, best, best_record):
            best, best_record = release, record
    return best


def best_names(shelf: Shelf) -> list[str]:
    """Names of the best release of every line on a target: they are not pruned, later candidates are held to them. So
    are damaged ones: one of them may be the best when a copy of its record was put back."""
    best = [best_of_line(shelf, line) for line in sorted({release.model for release in shelf.releases})]
    return [*(release.name for release in best if release is not None), *shelf.damaged]


def no_references(shelf: Shelf) -> list[str]:
    """A sentence for each release that no candidate is held to because it is damaged."""
    return [f"{name} is no reference for its line: {why}" for name, why in shelf.damaged.items()]


def best_beside(shelf: Shelf, line: str, candidate: str, champion: str | None) -> Release | None:
    """The best release of `line` where that is another than the engine with digest `champion`, for a candidate whose
    engine has digest `candidate`."""
    best = best_of_line(shelf, line, without=candidate)
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


def _recorded(shelf: Shelf, line: str, without: str) -> Iterator[tuple[Release, Recorded]]:
    """The releases of a line with their recorded values, oldest first."""
    for release in shelf.releases:
        withdrawn = engine_digits(release.name) in shelf.withdrawn
        if release.model != line or release.digests["engine"] == without or withdrawn:
            continue
        value = recorded_quality(shelf.verdicts.get(release.name, {}))
        if value is not None:
            yield release, value


def _parsed(text: str, release: Release) -> dict[str, Any]:
    """A verdict as a JSON object. Raises StateError for anything else."""
    next_step = f"put back a copy of it; or delete {VERDICT} there: then this release is no reference for its line"
    thing = f"verdict of release {release.name}: {release.path}/{VERDICT}"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise StateError(thing, f"{err}: {text[:200]}", "JSON", next_step) from err
    if not isinstance(document, dict):
        raise StateError(thing, text[:200], "a JSON object", next_step)
    return document


def _better(record: Recorded, best: Release, best_record: Recorded) -> bool:
    shown = record.better_than.get(best.digests["engine"])
    if shown is not None:
        return shown
    sign = -1 if record.lower_is_better else 1
    return sign * record.value > sign * best_record.value
