"""Speed as a ratio to the champion and to the roofline, with the bounds that boots leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.target import TargetConfig
from slipway.errors import CheckpointError
from slipway.evaluation.gate_rules import Rule, Skipped
from slipway.evaluation.speed_rules import Speed, ratios, roofline_rules, speed_rules
from slipway.planning.roofline import roof
from slipway.store.artifacts import Quantized
from tests.support.gate_rows import row, rows
from tests.support.pico import pico_model

SETTINGS = {"client": "c", "output_tokens": [24, 40], "counted_by": "server", "settings": {"seed": 0}}


def speed(tokens_per_s: float, spread: float | None = 0.02, callers: int = 4, **other: Any) -> Speed:
    run = {**SETTINGS, "tokens_per_s": tokens_per_s, "prompt_tokens": 20, "concurrency": callers, **other}
    return Speed({callers: run}, spread)


@pytest.mark.parametrize(("ours", "outcome"), [(95.0, "pass"), (92.0, "inconclusive"), (80.0, "fail")])
def test_a_ratio_is_decided_by_what_boots_leave_of_it(ours: float, outcome: str) -> None:
    (rule,) = speed_rules(speed(ours), speed(100.0), row("speed", min_speed_ratio=0.9))
    assert rule.outcome == outcome
    assert rule.value == pytest.approx(ours / 100)
    assert (rule.low, rule.high) == (
        pytest.approx(ours / 100 * 0.98 / 1.02),
        pytest.approx(ours / 100 * 1.02 / 0.98),
    )
    assert (rule.metric, rule.against, rule.direction) == ("tokens_per_s_4", "champion", "at least")


@pytest.mark.parametrize(("ours", "theirs"), [(None, 0.02), (0.02, None)])
def test_a_ratio_whose_boots_nobody_compared_decides_nothing(ours: float | None, theirs: float | None) -> None:
    (rule,) = speed_rules(speed(200.0, ours), speed(100.0, theirs), row("speed", min_speed_ratio=0.9))
    assert rule.outcome == "inconclusive" and "engine.boots.warm" in rule.reason


@pytest.mark.parametrize(
    "other", [{"client": "aiperf"}, {"output_tokens": [8, 8]}, {"settings": {"seed": 1}}, {"callers": 1}]
)
def test_speeds_of_other_settings_are_not_compared(other: dict[str, Any]) -> None:
    assert ratios(speed(100.0), speed(100.0, **other)) == []
    (rule,) = speed_rules(speed(100.0), speed(100.0, **other), row("speed", min_speed_ratio=0.9))
    assert rule.outcome == "inconclusive" and rule.value is None


def test_without_a_limit_or_a_champion_there_is_no_rule_and_the_second_is_said() -> None:
    assert rows("speed", min_speed_ratio=None) == []
    none_yet = Skipped("speed against champion: there is none yet")
    assert list(speed_rules(speed(100.0), None, row("speed", min_speed_ratio=0.9))) == [none_yet]
    assert list(speed_rules(speed(100.0), None, row("speed"))) == []


@pytest.mark.parametrize(
    ("ours", "spread", "outcome"), [(80.0, 0.02, "fail"), (95.0, 0.02, "pass"), (92.0, 0.02, None), (20.0, None, None)]
)
def test_unasked_a_ratio_decides_only_what_boots_can_tell(ours: float, spread: float | None, outcome: str) -> None:
    """As `make ship` runs: an engine of a CPU keeps no caches, so no boots of it are measured."""
    (one,) = speed_rules(speed(ours, spread), speed(100.0), row("speed"))
    assert (one.outcome if isinstance(one, Rule) else None) == outcome
    assert isinstance(one, Rule) or f"{ours / 100:.3f} times the champion's tokens/s" in one.reason


def test_unasked_speeds_of_two_machines_decide_nothing() -> None:
    there = {"server": {"kind": "vllm", "target": "dgx-h100"}}
    here = {"server": {"kind": "vllm", "target": "spark"}}
    (one,) = speed_rules(speed(50.0, **here), speed(100.0, **there), row("speed"))
    assert isinstance(one, Skipped) and "another machine" in one.reason
    (rule,) = speed_rules(speed(50.0, **here), speed(100.0, **here), row("speed"))
    assert isinstance(rule, Rule) and rule.outcome == "fail"
    (none,) = speed_rules(speed(50.0), speed(100.0, callers=1), row("speed"))
    assert isinstance(none, Skipped) and "no speed run of both" in none.reason


def test_the_share_of_the_roofline_is_that_of_the_planner(tmp_path: Path) -> None:
    pico_model(tmp_path / "m")
    checkpoint = Quantized(uri=str(tmp_path / "m"), digest="0" * 64)
    serving = TargetConfig(bandwidth_gb_s=100)
    above = roof(tmp_path / "m", 100, 4, 52)  # 20 tokens of prompt and 32 of answer
    params = row("of_roofline", min_of_roofline=0.5)
    (rule,) = roofline_rules(speed(0.6 * above.tokens_per_s), checkpoint, serving, params)
    assert rule.outcome == "pass" and rule.value == pytest.approx(0.6)
    (slow,) = roofline_rules(speed(0.4 * above.tokens_per_s), checkpoint, serving, params)
    assert slow.outcome == "fail"
    (shown,) = roofline_rules(speed(0.4 * above.tokens_per_s), checkpoint, serving, row("of_roofline"))
    assert isinstance(shown, Skipped) and "0.400 of the" in shown.reason


def test_unasked_a_model_without_a_roofline_is_said_and_stops_nothing(tmp_path: Path) -> None:
    nothing = Quantized(uri=str(tmp_path), digest="0" * 64)
    (shown,) = roofline_rules(speed(1.0), nothing, TargetConfig(bandwidth_gb_s=100), row("of_roofline"))
    assert isinstance(shown, Skipped)
    with pytest.raises(CheckpointError):
        list(
            roofline_rules(
                speed(1.0), nothing, TargetConfig(bandwidth_gb_s=100), row("of_roofline", min_of_roofline=0.5)
            )
        )


def test_a_roofline_needs_bandwidth_and_speed() -> None:
    checkpoint, params = Quantized(uri="nowhere", digest="0" * 64), row("of_roofline", min_of_roofline=0.5)
    (rule,) = roofline_rules(speed(1.0), checkpoint, TargetConfig(), params)
    assert rule.outcome == "inconclusive" and "serving.bandwidth_gb_s" in rule.reason
    (rule,) = roofline_rules(Speed({}, None), checkpoint, TargetConfig(bandwidth_gb_s=1), params)
    assert rule.outcome == "inconclusive" and "no speed was measured" in rule.reason
    assert list(roofline_rules(speed(1.0), checkpoint, TargetConfig(), row("of_roofline"))) == []
