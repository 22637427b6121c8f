"""The best release of a line: by what its verdict recorded, on disk, not rolled back from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.best_release import (
    Shelf,
    best_beside,
    best_names,
    best_of_line,
    no_references,
    recorded_quality,
    shelf_of,
)
from slipway.deployment.local import LocalTarget
from slipway.deployment.releases import Release
from slipway.errors import StateError


def measured(
    value: float | None, name: str = "json_exact", direction: str = "higher", than: dict[int, bool] | None = None
) -> dict[str, Any]:
    """A verdict that recorded this value. `than`: number of another release -> whether it was shown to be better."""
    compared = {f"r{n}": {"engine": digest(n), "better": better} for n, better in (than or {}).items()}
    entry = {"name": name, "value": value, "direction": direction}
    return {"outcome": "pass", "rules": [], "measured": [entry], "compared": compared}


def digest(number: int) -> str:
    return f"{number:08x}" * 8


def chosen(releases: Releases, **more: str) -> int | None:
    release = best_of_line(shelf(releases), "home", **more)
    return int(release.name[:4]) if release else None


def ship(releases: Releases, number: int, verdict: dict[str, Any] | None, line: str = "home") -> str:
    name = f"{number:04d}-{digest(number)[:8]}"
    folder = releases.dir(name)
    folder.mkdir(parents=True)
    release = Release(
        name=name, path=str(folder), model=line, created="", digests={"engine": digest(number)}, outcome="pass"
    )
    (folder / "release.json").write_text(release.model_dump_json())
    if verdict is not None:
        (folder / "verdict.json").write_text(json.dumps(verdict))
    releases.history.record("promote", name)
    return name


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(TargetPaths(tmp_path))


def shelf(releases: Releases) -> Shelf:
    return shelf_of(LocalTarget(DeployConfig(root=str(releases.paths.root))))


def test_the_oldest_that_none_was_shown_to_be_better_than_is_taken(releases: Releases) -> None:
    assert best_of_line(shelf(releases), "home") is None
    ship(releases, 1, measured(0.83))
    ship(releases, 2, measured(0.86, than={1: False}))  # higher, by chance as far as its gate can tell
    ship(releases, 3, measured(0.80, than={2: False, 1: False}))
    ship(releases, 4, measured(0.99), line="another")
    ship(releases, 5, None)
    ship(releases, 6, measured(None))
    assert chosen(releases) == 1
    ship(releases, 7, measured(0.91, than={3: True, 1: True}))
    ship(releases, 8, measured(0.90, than={7: False}))
    assert chosen(releases) == 7
    assert chosen(releases, without=digest(7)) == 8  # it was not compared with the first, and is higher
    assert chosen(releases, without=digest(1)) == 7


def test_a_verdict_of_before_counts_by_its_value(releases: Releases) -> None:
    ship(releases, 1, measured(0.83))
    ship(releases, 2, measured(0.82))
    assert chosen(releases) == 1
    ship(releases, 3, measured(0.84))
    assert chosen(releases) == 3


def test_the_best_release_of_every_line_is_named_for_those_who_prune(releases: Releases) -> None:
    first = ship(releases, 1, measured(0.83))
    another = ship(releases, 2, measured(0.5), line="another")
    ship(releases, 3, measured(0.84, than={1: False}))
    ship(releases, 4, None, line="unmeasured")
    assert best_names(shelf(releases)) == [another, first]


def test_lower_is_better_where_the_metric_says_so_and_metrics_are_not_mixed(releases: Releases) -> None:
    ship(releases, 1, measured(0.99, "chrf"))
    ship(releases, 2, measured(1.4, "loss", "lower"))
    ship(releases, 3, measured(1.2, "loss", "lower"))
    ship(releases, 4, measured(1.3, "loss", "lower"))
    assert chosen(releases) == 3


def test_what_was_rolled_back_from_is_no_reference(releases: Releases) -> None:
    first = ship(releases, 1, measured(0.80))
    ship(releases, 2, measured(0.90))
    releases.history.record("rollback", first)
    assert chosen(releases) == 1


def test_a_champion_that_is_the_best_is_no_second_reference(releases: Releases) -> None:
    ship(releases, 1, measured(0.84))
    assert best_beside(shelf(releases), "home", digest(9), digest(1)) is None
    assert best_beside(shelf(releases), "home", digest(1), None) is None  # the candidate itself
    ship(releases, 2, measured(0.82, than={1: False}))
    beside = best_beside(shelf(releases), "home", digest(9), digest(2))
    assert beside is not None and beside.digests["engine"] == digest(1)


def test_a_verdict_of_before_metrics_were_recorded_counts_by_its_first_floor() -> None:
    old = {
        "rules": [
            {"rule": "bits_per_parameter", "metric": "b", "value": 4.5},
            {"rule": "floor", "metric": "json_exact", "value": 0.8},
        ]
    }
    recorded = recorded_quality(old)
    assert recorded is not None and (recorded.metric, recorded.value, recorded.lower_is_better) == (
        "json_exact",
        0.8,
        False,
    )
    assert recorded_quality({"rules": []}) is None and recorded_quality({}) is None


@pytest.mark.parametrize("document", ["verdict.json", "release.json"])
def test_a_damaged_release_is_no_reference_is_named_and_is_kept(releases: Releases, document: str) -> None:
    best, other, last = (ship(releases, number, measured(value)) for number, value in enumerate((0.9, 0.8, 0.7), 1))
    releases.point(last)
    assert chosen(releases) == 1
    (releases.dir(best) / document).write_text("{")
    assert chosen(releases) == 2
    (sentence,) = no_references(shelf(releases))
    assert sentence.startswith(f"{best} is no reference for its line")
    assert str(releases.dir(best) / document) in sentence
    assert best_names(shelf(releases)) == [other, best]


def test_without_the_record_of_what_serves_nothing_is_chosen(releases: Releases) -> None:
    name = ship(releases, 1, measured(0.9))
    releases.point(name)
    (releases.dir(name) / "release.json").write_text("{")
    with pytest.raises(StateError, match=f"record of release {name}"):
        shelf(releases)
