"""Whether test rows can settle the gate, said before training."""

from __future__ import annotations

import random
from typing import Any

import pytest

from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.evaluation.decidability import DIFFERING, POWER, undecidable
from slipway.evaluation.statistics import non_inferiority_p

DATA = {"test_rows": 230, "label_key": None, "task": ["label", "3 distinct answers"]}


def gate(margin: float, metric: str = "primary", against: str = "merged", **more: Any) -> GateConfig:
    return GateConfig.model_validate(
        {"non_inferiority": [{"against": against, "metric": metric, "margin": margin}], **more}
    )


def test_230_rows_cannot_settle_two_points_and_can_settle_eight() -> None:
    (rule,) = undecidable(gate(0.02), EvaluateConfig(), DATA)
    assert (rule.metric, rule.items) == ("label_accuracy", 230)
    assert 1_500 < rule.needed < 1_800
    assert "230 test rows are few for a margin of 2 points of label_accuracy against merged" in str(rule)
    assert "data.test_fraction" in str(rule)
    assert undecidable(gate(0.08), EvaluateConfig(), DATA) == []
    assert undecidable(gate(0.5), EvaluateConfig(), {**DATA, "test_rows": 24}) == []


def test_the_number_settles_it_as_often_as_it_says() -> None:
    """By simulation with the gate's own test: as many draws pass, within four standard errors."""
    (rule,) = undecidable(gate(0.05), EvaluateConfig(), {**DATA, "test_rows": 50})
    draw, runs, passed = random.Random(7), 400, 0
    for _ in range(runs):
        differing = sum(draw.random() < DIFFERING for _ in range(rule.needed))
        gained = sum(draw.random() < 0.5 for _ in range(differing))
        passed += non_inferiority_p(gained, differing - gained, rule.needed, 0.05) < 0.05
    assert passed / runs == pytest.approx(POWER, abs=4 * (POWER * (1 - POWER) / runs) ** 0.5)


def test_the_best_release_is_compared_at_a_stricter_level() -> None:
    (champion,) = undecidable(gate(0.02, against="champion"), EvaluateConfig(), DATA)
    (best,) = undecidable(gate(0.02, against="best"), EvaluateConfig(), DATA)
    assert best.needed > 2 * champion.needed


def test_a_sample_counts_unless_all_rows_follow_where_it_cannot_tell() -> None:
    data, sample = {**DATA, "test_rows": 5000}, EvaluateConfig(max_items=200)
    assert undecidable(gate(0.02), sample, data) == []
    assert [rule.items for rule in undecidable(gate(0.02, more_items=False), sample, data)] == [200]


@pytest.mark.parametrize("metric", ["chrf", "log_likelihood", "judge", "no_such_metric"])
def test_metrics_whose_spread_is_not_known_are_left_out(metric: str) -> None:
    assert undecidable(gate(0.02, metric), EvaluateConfig(), DATA) == []


def test_data_that_says_too_little_is_left_out() -> None:
    assert undecidable(gate(0.02), EvaluateConfig(), {}) == []
    assert undecidable(gate(0.02), EvaluateConfig(), {"test_rows": 9}) == []
    assert undecidable(gate(1.5), EvaluateConfig(), DATA) == []


def test_a_rule_on_new_rows_is_held_to_their_number() -> None:
    row = {"rule": "non_inferiority", "metric": "primary", "against": "champion", "margin": 0.08}
    rows = {**DATA, "test_rows_new": 30, "test_rows_fixed": 200}
    (few,) = undecidable(GateConfig.model_validate({"rules": [row, {**row, "rows": "new"}]}), EvaluateConfig(), rows)
    assert (few.against, few.items) == ("champion on new rows", 30)
