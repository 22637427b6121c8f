"""Two models on the same items: outcomes of the non-inferiority test, of either kind of metric."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from scipy import stats

from slipway.config.gate_rows import GateRow
from slipway.errors import DataError
from slipway.evaluation.metric import Metric, aggregate
from slipway.evaluation.paired_rules import Evaluated, non_inferiority_rule, pair, paired_differences
from slipway.evaluation.statistics import paired_difference

EXACT = Metric("exact", "exact match")
CHRF = Metric("chrf", "chrF", "real")
LOSS = Metric("loss", "loss", "real", "lower", "nats")


def evaluated(metric: Metric, values: list[Any], templates: list[str] | None = None, answer: str = "x") -> Evaluated:
    """Items with these values; each a template of its own unless `templates` says otherwise."""
    items = [
        {"id": f"t{i}", "template": (templates or [f"p{i}" for i in range(len(values))])[i], "answer": answer}
        | {"metrics": {metric.name: value}}
        for i, value in enumerate(values)
    ]
    return Evaluated(items, {"n": len(items), "metrics": [aggregate(metric, items, 0.95)]})


def judge(metric: Metric, ours: list[Any], theirs: list[Any], margin: float = 0.1, **more: Any) -> Any:
    """The rule's result for these values on the two sides."""
    rule = GateRow("non_inferiority", against="merged", metric=metric.name, margin=margin)
    sides = {"candidate": evaluated(metric, ours, **more), "merged": evaluated(metric, theirs, **more)}
    return non_inferiority_rule(rule, sides)


def bits(right: str) -> list[int]:
    return [int(c) for c in right]


def test_a_paired_test_is_decided_by_the_whole_interval() -> None:
    ones = [1] * 100
    outcomes = [
        judge(EXACT, ours, ones).outcome for ours in (ones, [1] * 50 + [0] * 50, [1] * 92 + [0] * 8, [1] * 99 + [0])
    ]
    assert outcomes == ["pass", "fail", "inconclusive", "pass"]
    rule, tango = judge(EXACT, [1] * 99 + [0], ones), paired_difference(0, 1, 100, 0.9)
    assert (rule.value, rule.low, rule.high) == (tango.value, tango.low, tango.high)


def test_a_real_metric_has_students_paired_interval() -> None:
    random = Random(3)
    theirs = [random.random() for _ in range(40)]
    ours = [v - random.gauss(0.02, 0.05) for v in theirs]
    rule = judge(CHRF, ours, theirs)
    want = stats.ttest_rel(ours, theirs).confidence_interval(0.9)
    assert (rule.low, rule.high) == (pytest.approx(want.low), pytest.approx(want.high))
    assert rule.outcome == "pass"
    assert judge(CHRF, [v - 0.3 for v in ours], theirs).outcome == "fail"
    undecided = judge(CHRF, ours, theirs, margin=(abs(rule.value) - rule.low) / 2)
    assert undecided.outcome == "inconclusive"
    assert undecided.items_needed > 40


def test_lower_is_better_where_the_metric_says_so() -> None:
    values = [1 + i / 100 for i in range(30)]
    assert judge(LOSS, [v + 1 + v / 10 for v in values], values, margin=0.2).outcome == "fail"
    better = judge(LOSS, [v - 1 for v in values], values, margin=0.2)
    assert (better.outcome, better.value) == ("pass", pytest.approx(1.0))
    assert "+1 nats" in better.reason


def test_items_of_one_template_are_not_counted_as_many() -> None:
    """Forty templates of five items: losses that come by template widen the interval, scattered ones do not."""
    templates = [f"p{i // 5}" for i in range(200)]
    together = [0] * 10 + [1] * 190
    scattered = [0 if i % 20 == 0 else 1 for i in range(200)]
    wide, narrow = (judge(EXACT, ours, [1] * 200, templates=templates) for ours in (together, scattered))
    assert wide.value == narrow.value == pytest.approx(-0.05)
    assert wide.low < narrow.low
    assert (wide.outcome, narrow.outcome) == ("inconclusive", "pass")


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "more", "words"),
    [
        (EXACT, [0] * 50, [0] * 50, {}, "every item is wrong on both sides"),
        (CHRF, [0.0] * 50, [0.0] * 50, {}, "every item is wrong on both sides"),
        (EXACT, [1] * 19, [1] * 19, {}, "19 items are fewer than gate.min_items=20"),
        (LOSS, [0.0] * 50, [0.0] * 50, {"answer": " "}, "every answer on both sides is empty"),
        (CHRF, [0.5] * 50, [0.5] * 50, {"templates": ["a", "b"] * 25}, "come from 2 templates only"),
        (EXACT, [None] * 50, [None] * 50, {}, "applies to no test item"),
    ],
    ids=["all wrong", "all wrong, real", "too few", "all empty", "two templates", "no value"],
)
def test_what_says_nothing_is_inconclusive(metric: Metric, ours: Any, theirs: Any, more: Any, words: str) -> None:
    rule = judge(metric, ours, theirs, margin=0.5, **more)
    assert rule.outcome == "inconclusive"
    assert words in rule.reason


def test_one_template_alone_decides_nothing() -> None:
    rule = judge(CHRF, [0.5 + i / 100 for i in range(30)], [0.5] * 30, templates=["p"] * 30)
    assert (rule.outcome, rule.low, rule.high) == ("inconclusive", None, None)


def test_a_metric_of_one_side_only_is_inconclusive() -> None:
    rule = GateRow("non_inferiority", against="merged", metric="exact", margin=0.1)
    sides = {"candidate": evaluated(EXACT, [1] * 30), "merged": evaluated(CHRF, [1.0] * 30)}
    result = non_inferiority_rule(rule, sides)
    assert (result.outcome, result.value) == ("inconclusive", None)
    assert "measured: chrf" in result.reason


def test_items_without_a_value_on_either_side_are_left_out() -> None:
    ours, theirs = [1] * 25 + [None, 0], [1] * 25 + [0, None]
    rule = judge(EXACT, ours, theirs)
    assert (rule.items, rule.outcome) == (25, "pass")


def test_a_shared_metric_is_compared_and_others_are_left_out() -> None:
    both = {**evaluated(EXACT, bits("1111100000"), None).metrics}
    effects = paired_differences(evaluated(EXACT, bits("1111100000")), evaluated(EXACT, bits("0" * 10)), 0.95, "base")
    assert set(effects) == {"exact"}
    assert both["n"] == 10
    effect = effects["exact"]
    assert (effect["title"], effect["unit"], effect["n"]) == ("exact match", "share", 10)
    assert effect["value"] == pytest.approx(0.5)
    assert effect["p"] == pytest.approx(2 / 2**5)
    assert effect["low"] < 0.5 < effect["high"]
    assert paired_differences(evaluated(EXACT, [1]), evaluated(CHRF, [1.0]), 0.95, "base") == {}


def test_items_that_differ_are_named() -> None:
    ours, theirs = evaluated(EXACT, [1, 1, 1]).items, evaluated(EXACT, [1, 1, 1]).items
    for other in (theirs[:2], list(reversed(theirs))):
        with pytest.raises(DataError, match=r"item \d of the paired test against base"):
            pair(ours, other, EXACT, "base")


def test_primary_is_the_first_metric_that_both_sides_have() -> None:
    """A merge that is not served has log-likelihoods only."""
    loglik = Metric("log_likelihood", "log-likelihood", "real", "higher", "nats/token")
    streamed = evaluated(loglik, [-1 - i / 100 for i in range(30)])
    items = [
        {**item, "metrics": {"chrf": 0.5, "log_likelihood": item["metrics"]["log_likelihood"]}}
        for item in streamed.items
    ]
    served = Evaluated(items, {"n": 30, "metrics": [aggregate(metric, items, 0.95) for metric in (CHRF, loglik)]})
    rule = GateRow("non_inferiority", against="merged", metric="primary", margin=0.1)
    for merged, name in ((streamed, "log_likelihood"), (served, "chrf"), (evaluated(EXACT, [1] * 30), "chrf")):
        result = non_inferiority_rule(rule, {"candidate": served, "merged": merged})
        assert result.metric == name
    assert result.outcome == "inconclusive"
