"""The best release of a line: by what its verdict recorded, on disk, not rolled back from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.deployment.best_release import best_beside, best_of_line, recorded_quality
from slipway.deployment.releases import Release, Releases
from slipway.errors import StateError


def measured(value: float | None, name: str = "json_exact", direction: str = "higher") -> dict[str, Any]:
    return {"outcome": "pass", "rules": [], "measured": [{"name": name, "value": value, "direction": direction}]}


def digest(number: int) -> str:
    return f"{number:08x}" * 8


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
    return Releases(tmp_path)


def test_the_best_recorded_value_of_the_line_is_taken_and_the_newest_of_equal_ones(releases: Releases) -> None:
    assert best_of_line(releases, "home") is None
    ship(releases, 1, measured(0.83))
    best = ship(releases, 2, measured(0.84))
    ship(releases, 3, measured(0.80))
    ship(releases, 4, measured(0.99), line="another")
    ship(releases, 5, None)
    ship(releases, 6, measured(None))
    chosen = best_of_line(releases, "home")
    assert chosen is not None and chosen.name == best
    newer = ship(releases, 7, measured(0.84))
    chosen = best_of_line(releases, "home")
    assert chosen is not None and chosen.name == newer
    chosen = best_of_line(releases, "home", without=digest(7))
    assert chosen is not None and chosen.name == best


def test_lower_is_better_where_the_metric_says_so_and_metrics_are_not_mixed(releases: Releases) -> None:
    ship(releases, 1, measured(0.99, "chrf"))
    best = ship(releases, 2, measured(1.2, "loss", "lower"))
    ship(releases, 3, measured(1.4, "loss", "lower"))
    chosen = best_of_line(releases, "home")
    assert chosen is not None and chosen.name == best


def test_what_was_rolled_back_from_is_no_reference(releases: Releases) -> None:
    first = ship(releases, 1, measured(0.80))
    ship(releases, 2, measured(0.90))
    releases.history.record("rollback", first)
    chosen = best_of_line(releases, "home")
    assert chosen is not None and chosen.name == first


def test_departures_are_counted_from_the_best_release(releases: Releases) -> None:
    ship(releases, 1, measured(0.84))
    assert best_beside(releases, "home", digest(9), digest(1)) is None  # the champion is it
    ship(releases, 2, measured(0.82))
    beside = best_beside(releases, "home", digest(9), digest(2))
    assert beside is not None and (beside.release.name[:4], beside.departure) == ("0001", 2)
    ship(releases, 3, measured(0.83))
    beside = best_beside(releases, "home", digest(9), digest(3))
    assert beside is not None and beside.departure == 3
    again = best_beside(releases, "home", digest(3), digest(2))  # the candidate serves already: judged as before it did
    assert again is not None and again.departure == 2


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


def test_a_damaged_verdict_is_one_error_that_names_it(releases: Releases) -> None:
    name = ship(releases, 1, None)
    (releases.dir(name) / "verdict.json").write_text("{")
    with pytest.raises(StateError, match=f"verdict of release {name}"):
        best_of_line(releases, "home")
