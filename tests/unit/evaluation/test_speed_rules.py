"""Speed as a ratio to the champion and to the roofline, with the bounds that boots leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.gate import GateConfig
from slipway.config.target import TargetConfig
from slipway.evaluation.speed_rules import Speed, ratios, roofline_rules, skipped_speed, speed_rules
from slipway.planning.roofline import roof
from slipway.store.artifacts import Quantized
from tests.support.pico import pico_model

SETTINGS = {"client": "c", "output_tokens": [24, 40], "counted_by": "server", "settings": {"seed": 0}}


def speed(tokens_per_s: float, spread: float | None = 0.02, callers: int = 4, **other: Any) -> Speed:
    run = {**SETTINGS, "tokens_per_s": tokens_per_s, "prompt_tokens": 20, "concurrency": callers, **other}
    return Speed({callers: run}, spread)


@pytest.mark.parametrize(("ours", "outcome"), [(95.0, "pass"), (92.0, "inconclusive"), (80.0, "fail")])
def test_a_ratio_is_decided_by_what_boots_leave_of_it(ours: float, outcome: str) -> None:
    (rule,) = speed_rules(speed(ours), speed(100.0), GateConfig(min_speed_ratio=0.9))
    assert rule.outcome == outcome
    assert rule.value == pytest.approx(ours / 100)
    assert (rule.low, rule.high) == (
        pytest.approx(ours / 100 * 0.98 / 1.02),
        pytest.approx(ours / 100 * 1.02 / 0.98),
    )
    assert (rule.metric, rule.against, rule.direction) == ("tokens_per_s_4", "champion", "at least")


@pytest.mark.parametrize(("ours", "theirs"), [(None, 0.02), (0.02, None)])
def test_a_ratio_whose_boots_nobody_compared_decides_nothing(ours: float | None, theirs: float | None) -> None:
    (rule,) = speed_rules(speed(200.0, ours), speed(100.0, theirs), GateConfig(min_speed_ratio=0.9))
    assert rule.outcome == "inconclusive" and "engine.boots.warm" in rule.reason


@pytest.mark.parametrize(
    "other", [{"client": "aiperf"}, {"output_tokens": [8, 8]}, {"settings": {"seed": 1}}, {"callers": 1}]
)
def test_speeds_of_other_settings_are_not_compared(other: dict[str, Any]) -> None:
    assert ratios(speed(100.0), speed(100.0, **other)) == []
    (rule,) = speed_rules(speed(100.0), speed(100.0, **other), GateConfig(min_speed_ratio=0.9))
    assert rule.outcome == "inconclusive" and rule.value is None


def test_without_a_limit_or_a_champion_there_is_no_rule_and_the_second_is_said() -> None:
    assert list(speed_rules(speed(100.0), speed(100.0), GateConfig())) == []
    params = GateConfig(min_speed_ratio=0.9)
    assert list(speed_rules(speed(100.0), None, params)) == []
    assert skipped_speed(None, params) == ["speed against champion: there is none yet"]
    assert skipped_speed(None, GateConfig()) == []


def test_the_share_of_the_roofline_is_that_of_the_planner(tmp_path: Path) -> None:
    pico_model(tmp_path / "m")
    checkpoint = Quantized(uri=str(tmp_path / "m"), digest="0" * 64)
    serving = TargetConfig(bandwidth_gb_s=100)
    above = roof(tmp_path / "m", 100, 4, 52)  # 20 tokens of prompt and 32 of answer
    params = GateConfig(min_of_roofline=0.5)
    (rule,) = roofline_rules(speed(0.6 * above.tokens_per_s), checkpoint, serving, params)
    assert rule.outcome == "pass" and rule.value == pytest.approx(0.6)
    (slow,) = roofline_rules(speed(0.4 * above.tokens_per_s), checkpoint, serving, params)
    assert slow.outcome == "fail"


def test_a_roofline_needs_bandwidth_and_speed() -> None:
    checkpoint, params = Quantized(uri="nowhere", digest="0" * 64), GateConfig(min_of_roofline=0.5)
    (rule,) = roofline_rules(speed(1.0), checkpoint, TargetConfig(), params)
    assert rule.outcome == "inconclusive" and "serving.bandwidth_gb_s" in rule.reason
    (rule,) = roofline_rules(Speed({}, None), checkpoint, TargetConfig(bandwidth_gb_s=1), params)
    assert rule.outcome == "inconclusive" and "no speed was measured" in rule.reason
    assert list(roofline_rules(speed(1.0), checkpoint, TargetConfig(), GateConfig())) == []
