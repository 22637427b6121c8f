"""The checks of a look: each by numbers that can be counted, and the family's alarms by Holm."""

from __future__ import annotations

import pytest

from slipway.config.watch import WatchConfig
from slipway.evaluation.statistics import wilson
from slipway.watch.checks import LEAST_PROMPTS, SPENT, Check, Inputs, judge
from slipway.watch.replay import Answered, Replayed

LEVEL = 0.05 / 52 * 0.8


def answered(i: int, then: float, now: float, tokens_now: int = 9) -> Answered:
    return Answered(f"r{i}", f"t{i}", {"exact": then}, {"exact": now}, 9, tokens_now)


def checks(
    rows: list[Answered], asked: int = 0, inputs: Inputs | None = None, level: float = LEVEL
) -> dict[str, Check]:
    replayed = Replayed(asked or len(rows), rows, "timed out")
    judged = judge(replayed, {"exact": "higher"}, inputs, "capture is off", WatchConfig(), level)
    return {check.name: check for check in judged}


def test_nothing_changed() -> None:
    result = checks([answered(i, 1.0, 1.0) for i in range(100)])
    assert {name: check.outcome for name, check in result.items()} == {
        "exact": "ok", "answers longer": "ok", "answers shorter": "ok", "unanswered": "ok",
        "input lengths": "cannot_tell", "input n-grams": "cannot_tell", "input labels": "cannot_tell",
    }  # fmt: skip
    assert result["exact"].value == 0.0 and result["exact"].p == 1.0
    assert result["answers longer"].value == 1.0
    assert result["input lengths"].reason == "capture is off"


def test_a_fall_of_thirty_points_is_an_alarm_with_its_bound_under_the_margin() -> None:
    quality = checks([answered(i, 1.0, float(i % 10 > 2)) for i in range(100)])["exact"]
    assert (quality.outcome, quality.then, quality.now) == ("alarm", 1.0, 0.7)
    assert quality.value == pytest.approx(-0.3)
    assert quality.bound is not None and quality.value < quality.bound < -0.02 == quality.margin
    # the same rows by a score interval of the share that fell, as a check of its size
    assert 0.3 - wilson(30, 100, 1 - 2 * quality.level)[0] == pytest.approx(quality.bound + 0.3, abs=0.05)


def test_a_fall_within_the_margin_is_none() -> None:
    assert checks([answered(i, 1.0, float(i != 0)) for i in range(100)])["exact"].outcome == "ok"


def test_answers_of_twice_the_tokens_are_longer_and_not_shorter() -> None:
    result = checks([answered(i, 1.0, 1.0, 19) for i in range(60)])
    assert (result["answers longer"].outcome, result["answers longer"].value) == ("alarm", 2.0)
    assert result["answers longer"].bound == 2.0 and result["answers longer"].margin == 1.25
    assert result["answers shorter"].outcome == "ok"


def test_half_the_tokens_are_shorter() -> None:
    shorter = checks([answered(i, 1.0, 1.0, 4) for i in range(60)])["answers shorter"]
    assert (shorter.outcome, shorter.value, shorter.margin) == ("alarm", 0.5, 0.8)


def test_rows_without_an_answer() -> None:
    """20 of 100; P(X >= 20) with a share of 0.02 is below 1e-13."""
    result = checks([answered(i, 1.0, 1.0) for i in range(80)], asked=100)["unanswered"]
    assert (result.outcome, result.value, result.reason) == ("alarm", 0.2, "timed out")
    assert result.bound is not None and 0.02 < result.bound < 0.2
    few = checks([answered(i, 1.0, 1.0) for i in range(98)], asked=100)["unanswered"]
    assert few.outcome == "ok"


def test_few_templates_cannot_tell_and_say_how_many_would() -> None:
    rows = [Answered(f"r{i}", f"t{i % 5}", {"exact": 1.0}, {"exact": 0.0}, 9, 9) for i in range(100)]
    quality = checks(rows)["exact"]
    assert (quality.outcome, quality.p, quality.value) == ("cannot_tell", None, -1.0)
    assert quality.reason.startswith("5 templates of rows; below 13 nothing")


def test_a_metric_that_applies_to_no_row() -> None:
    rows = [Answered(f"r{i}", f"t{i}", {"exact": None}, {"exact": 1.0}, 9, 9) for i in range(40)]
    assert (checks(rows)["exact"].outcome, checks(rows)["exact"].n) == ("cannot_tell", 0)


def test_a_spent_week_cannot_tell_and_says_so() -> None:
    result = checks([answered(i, 1.0, 0.0) for i in range(100)], level=1e-6)
    assert (result["exact"].outcome, result["exact"].reason) == ("cannot_tell", SPENT)


def test_inputs_of_another_kind() -> None:
    then = [f"turn on lamp {i}" for i in range(60)]
    now = [f"wie warm ist es morgen in Ort {i}" for i in range(60)]
    labels = ["on"] * 60, ["weather"] * 60
    rows = [answered(i, 1.0, 1.0) for i in range(60)]
    drifted = checks(rows, inputs=Inputs(then, now, *labels))
    assert [drifted[f"input {name}"].outcome for name in ("lengths", "n-grams", "labels")] == ["alarm"] * 3
    same = checks(rows, inputs=Inputs(then[::2], then[1::2]))
    assert [same[f"input {name}"].outcome for name in ("lengths", "n-grams", "labels")] == ["ok", "ok", "cannot_tell"]
    assert same["input labels"].reason == "the task has no classes"
    few = checks(rows, inputs=Inputs(then, now[: LEAST_PROMPTS - 1]))
    assert few["input lengths"].reason == "60 evaluated and 29 captured distinct requests; 30 of each are needed"
