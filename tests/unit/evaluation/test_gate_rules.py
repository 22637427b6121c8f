"""The rules of the gate on one model's figures: floors, bits, and the verdict they add up to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import DataError, GateError
from slipway.evaluation.gate_rules import bits_rule, floor_rule, overall, require_pass, tie_reason
from slipway.evaluation.metric import Metric, aggregate
from slipway.store.artifacts import Quantized, Verdict
from slipway.store.store import Store, load
from tests.support.gate_rows import row, rows


def document(metric: Metric, values: list[float | None]) -> dict[str, Any]:
    """`metrics.json` of items with these values of one metric."""
    items = [{"id": f"t{i}", "metrics": {metric.name: value}} for i, value in enumerate(values)]
    return {"n": len(items), "metrics": [aggregate(metric, items, 0.95)]}


def artifact(tmp_path: Path, cls: type[Any], **files: Any) -> Any:
    """An artifact of this kind with these JSON documents."""
    store = Store(tmp_path)
    with store.create(cls, "k", {}) as out:
        for name, doc in files.items():
            (out / name.replace("_json", ".json")).write_text(json.dumps(doc))
    return load(cls, store.dir(cls.kind, "k"))


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [([], "pass"), (["pass"], "pass"), (["pass", "inconclusive"], "inconclusive"), (["inconclusive", "fail"], "fail")],
)
def test_the_worst_outcome_decides(outcomes: list[Any], worst: str) -> None:
    assert overall(outcomes) == worst


@pytest.mark.parametrize(
    ("metric", "values", "at", "outside"),
    [
        (Metric("exact", "exact match"), [1, 1, 1, 1, 0], 0.8, 0.801),
        (Metric("toxicity", "toxicity", "real", "lower"), [0.25, 0.35], 0.3, 0.299),
        (Metric("loglik", "log-likelihood", "real", "higher", "nats/token"), [-2.0, -1.0], -1.5, -1.49),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_floor_holds_at_its_own_value_in_the_better_direction(
    metric: Metric, values: list[float | None], at: float, outside: float
) -> None:
    doc = document(metric, values)
    for floor, outcome in ((at, "pass"), (outside, "fail")):
        rule = floor_rule(doc, row("floor", floors={metric.name: floor}, min_items=1))
        assert rule.outcome == outcome
        assert rule.value == pytest.approx(at)
        assert rule.low is not None
        assert rule.low < at
        assert rule.items == len(values)


def test_a_floor_on_too_few_items_never_passes_and_can_fail() -> None:
    doc = document(Metric("exact", "exact match"), [1, 1, 1])
    passed = floor_rule(doc, row("floor", floors={"exact": 0.5}))
    assert (passed.outcome, "3 items are fewer than gate.min_items=20" in passed.reason) == ("inconclusive", True)
    failed = floor_rule(document(Metric("exact", "exact match"), [0, 0]), row("floor", floors={"exact": 0.5}))
    assert failed.outcome == "fail"


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [("bleu", [1.0] * 30, "bleu was not measured"), ("exact", [None] * 30, "exact applies to no test item")],
)
def test_a_floor_on_what_was_not_measured_is_inconclusive(name: str, values: list[float | None], words: str) -> None:
    rule = floor_rule(document(Metric("exact", "exact match"), values), row("floor", floors={name: 0.0}))
    assert (rule.outcome, rule.value) == ("inconclusive", None)
    assert words in rule.reason
    assert "gate.floors={} clears" in rule.reason


def test_primary_is_the_first_metric_of_the_evaluation() -> None:
    rule = floor_rule(document(Metric("exact", "exact match"), [1] * 30), row("floor", floors={"primary": 0.9}))
    assert (rule.metric, rule.outcome) == ("exact", "pass")


def test_bits_are_checked_where_a_limit_is_set(tmp_path: Path) -> None:
    quantized = artifact(tmp_path, Quantized, summary_json={"bits_per_parameter": 4.5})
    assert rows("bits_per_parameter") == []
    outcomes = [bits_rule(quantized, row("bits_per_parameter", max_bits_per_parameter=b)).outcome for b in (4.5, 4.4)]
    assert outcomes == ["pass", "fail"]
    empty = artifact(tmp_path / "empty", Quantized, summary_json={})
    with pytest.raises(DataError, match="no bits_per_parameter"):
        bits_rule(empty, row("bits_per_parameter", max_bits_per_parameter=4.5))


def test_only_a_passed_verdict_lets_a_promotion_go_on(tmp_path: Path) -> None:
    passed = artifact(tmp_path / "a", Verdict, verdict_json={"outcome": "pass", "rules": []})
    require_pass(passed)
    rules = [{"outcome": "pass", "reason": "good"}, {"outcome": "fail", "reason": "too low"}]
    failed = artifact(tmp_path / "b", Verdict, verdict_json={"outcome": "fail", "rules": rules})
    with pytest.raises(GateError, match="fail: too low"):
        require_pass(failed)
    explained = artifact(tmp_path / "c", Verdict, verdict_json={"outcome": "fail", "rules": rules, "causes": ["cut"]})
    with pytest.raises(GateError, match="nothing was promoted: cut"):
        require_pass(explained)


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ({"gain": "fail", "floor": "pass"}, "because of gain"),
        ({"gain": "fail", "non_inferiority": "inconclusive"}, "because of gain"),
        ({"gain": "fail", "floor": "fail"}, ""),
        ({"gain": "pass", "floor": "fail"}, ""),
        ({"floor": "pass"}, ""),
    ],
)
def test_a_tie_is_all_that_speaks_against_a_candidate_or_is_not_said(outcomes: dict[str, str], reason: str) -> None:
    rules = [{"rule": name, "outcome": outcome, "reason": f"because of {name}"} for name, outcome in outcomes.items()]
    assert tie_reason(rules) == reason
