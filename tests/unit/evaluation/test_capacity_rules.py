"""Memory for the planned users: what `slipway capacity` says, as a rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.target import TargetConfig
from slipway.evaluation.capacity_rules import capacity_rule
from slipway.planning.serving_capacity import Wish, model_in, serving_capacity
from slipway.store.artifacts import Quantized
from tests.support.gate_rows import row, rows
from tests.support.pico import pico_model

GPU = TargetConfig(name="gpu", gpus=1, gpu_memory_gb=6, reserve_gb=1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Quantized:
    pico_model(tmp_path / "m")
    return Quantized(uri=str(tmp_path / "m"), digest="0" * 64)


def test_as_many_users_as_planned_pass_and_one_more_than_fit_fails(checkpoint: Quantized) -> None:
    fitting = serving_capacity(model_in(checkpoint.path), Wish(1, 512), GPU).users
    rule = capacity_rule(checkpoint, GPU, row("memory", users=1, users_context=512))
    assert (rule.outcome, rule.value, rule.unit) == ("pass", fitting, "users")
    too_many = 10 * fitting
    rule = capacity_rule(checkpoint, GPU, row("memory", users=too_many, users_context=512))
    assert rule.outcome == "fail" and rule.expected == too_many
    assert f"fewer than {too_many}" in rule.reason


def test_a_cache_that_nobody_knows_is_inconclusive_and_no_plan_is_no_rule(checkpoint: Quantized) -> None:
    assert rows("memory") == []
    file = checkpoint.path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "somethingnew"}))
    rule = capacity_rule(checkpoint, GPU, row("memory", users=1))
    assert rule.outcome == "inconclusive" and rule.value is None
