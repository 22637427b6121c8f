"""The rules of the gate on hand-made items: floors, paired tests, bits, and the verdict they add up to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.gate import GateConfig, NonInferiority
from slipway.errors import ConfigError, DataError, GateError
from slipway.evaluation.gate_rules import (
    bits_rules,
    floor_rules,
    non_inferiority_rule,
    overall,
    paired_differences,
    read_items,
    require_pass,
)
from slipway.store.artifacts import Evaluation, Quantized, Verdict
from slipway.store.store import Store, load


def items(right: str) -> list[dict[str, Any]]:
    """One character an item: `1` right, `0` wrong, in both metrics."""
    return [{"id": f"t{i}", "exact_match": c == "1", "intent_correct": c == "1"} for i, c in enumerate(right)]


def artifact(tmp_path: Path, cls: type[Any], **files: Any) -> Any:
    """An artifact of this kind with these JSON documents; a list becomes JSON lines."""
    store = Store(tmp_path)
    with store.create(cls, "k", {}) as out:
        for name, doc in files.items():
            lines = "".join(json.dumps(line) + "\n" for line in doc) if isinstance(doc, list) else json.dumps(doc)
            (out / name.replace("_json", ".json")).write_text(lines)
    return load(cls, store.dir(cls.kind, "k"))


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [([], "pass"), (["pass"], "pass"), (["pass", "inconclusive"], "inconclusive"), (["inconclusive", "fail"], "fail")],
)
def test_the_worst_outcome_decides(outcomes: list[Any], worst: str) -> None:
    assert overall(outcomes) == worst


def test_a_floor_holds_at_its_own_value_and_shows_the_interval(tmp_path: Path) -> None:
    metric = {"value": 0.8, "low": 0.7, "high": 0.87}
    evaluation = artifact(tmp_path, Evaluation, metrics_json={"n": 100, "exact_match": metric})
    (at,) = floor_rules(evaluation, GateConfig(floors={"exact_match": 0.8}))
    (above,) = floor_rules(evaluation, GateConfig(floors={"exact_match": 0.801}))
    assert (at.outcome, above.outcome) == ("pass", "fail")
    assert (at.value, at.low, at.high, at.items) == (0.8, 0.7, 0.87, 100)
    with pytest.raises(ConfigError, match=r"gate\.floors\.intent_accuracy: not measured"):
        list(floor_rules(evaluation, GateConfig(floors={"intent_accuracy": 0.5})))


def test_a_paired_test_is_decided_by_the_whole_interval() -> None:
    rule = NonInferiority(against="merged", metric="exact_match", margin=0.1)
    same = {"candidate": items("1" * 100), "merged": items("1" * 100)}
    worse = {"candidate": items("1" * 50 + "0" * 50), "merged": items("1" * 100)}
    near = {"candidate": items("1" * 92 + "0" * 8), "merged": items("1" * 100)}
    outcomes = [non_inferiority_rule(rule, pair, 0.95).outcome for pair in (same, worse, near)]
    assert outcomes == ["pass", "fail", "inconclusive"]
    undecided = non_inferiority_rule(rule, near, 0.95)
    assert undecided.items == 100
    assert undecided.items_needed is not None
    assert undecided.items_needed > 100
    assert undecided.value == pytest.approx(-0.08)


def test_items_of_two_evaluations_are_the_same_in_the_same_order() -> None:
    for other in (items("11"), list(reversed(items("111")))):
        with pytest.raises(DataError, match=r"item \d of the paired test against base"):
            paired_differences(items("111"), other, 0.95, "base")


def test_differences_have_intervals_and_mcnemars_p() -> None:
    effects = paired_differences(items("1111100000"), items("0000000000"), 0.95, "base")
    assert set(effects) == {"exact_match", "intent_accuracy"}
    assert effects["exact_match"]["value"] == pytest.approx(0.5)
    assert effects["exact_match"]["p"] == pytest.approx(2 / 2**5)
    assert effects["exact_match"]["low"] < 0.5 < effects["exact_match"]["high"]


def test_bits_are_checked_where_a_limit_is_set(tmp_path: Path) -> None:
    quantized = artifact(tmp_path, Quantized, summary_json={"bits_per_parameter": 4.5})
    assert list(bits_rules(quantized, GateConfig())) == []
    outcomes = [next(bits_rules(quantized, GateConfig(max_bits_per_parameter=b))).outcome for b in (4.5, 4.4)]
    assert outcomes == ["pass", "fail"]
    empty = artifact(tmp_path / "empty", Quantized, summary_json={})
    with pytest.raises(DataError, match="no bits_per_parameter"):
        list(bits_rules(empty, GateConfig(max_bits_per_parameter=4.5)))


def test_items_are_read_as_they_were_written(tmp_path: Path) -> None:
    evaluation = artifact(tmp_path, Evaluation, **{"items.jsonl": items("10")})
    assert read_items(evaluation) == items("10")


def test_only_a_passed_verdict_lets_a_promotion_go_on(tmp_path: Path) -> None:
    passed = artifact(tmp_path / "a", Verdict, verdict_json={"outcome": "pass", "rules": []})
    require_pass(passed)
    rules = [{"outcome": "pass", "reason": "good"}, {"outcome": "fail", "reason": "too low"}]
    failed = artifact(tmp_path / "b", Verdict, verdict_json={"outcome": "fail", "rules": rules})
    with pytest.raises(GateError, match="fail: too low"):
        require_pass(failed)
