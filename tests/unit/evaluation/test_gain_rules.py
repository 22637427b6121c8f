"""A tie keeps the champion unless the candidate brings something, which is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.evaluation.engine_traits import Traits
from slipway.evaluation.gain_rules import gain_rule
from slipway.evaluation.speed_rules import Speed
from tests.support.gate_rows import row, rows

RUN = {"client": "c", "output_tokens": [24, 40], "counted_by": "server", "settings": {"seed": 0}}


def speed(tokens_per_s: float, spread: float | None = 0.02) -> Speed:
    return Speed({4: {**RUN, "tokens_per_s": tokens_per_s}}, spread)


SAME = Traits("a" * 64, 100_000_000, speed(100.0))


def differences(*pairs: tuple[float, float]) -> dict[str, dict[str, Any]]:
    return {f"m{i}": {"value": value, "p": p, "unit": "share"} for i, (value, p) in enumerate(pairs)}


def judge(candidate: Traits, *pairs: tuple[float, float], **params: Any) -> Any:
    return gain_rule(candidate, SAME, differences(*pairs), row("gain", **params))


def test_a_tie_that_brings_nothing_keeps_the_champion_and_says_what_was_compared() -> None:
    rule = judge(SAME, (0.01, 0.6))
    assert rule.outcome == "fail"
    for part in ("no metric is better", "same training data", "1.000 times the bytes", "1.000 times as fast at 4"):
        assert part in rule.reason
    assert rows("gain", tie="promote") == []


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (replace(SAME, data="b" * 64), "new training data bbbbbbbbbbbb for aaaaaaaaaaaa"),
        (replace(SAME, size=94_000_000), "smaller by 6.0%, 94.0 MB"),
        (replace(SAME, speed=speed(112.0)), "faster by 12.0% at 4 callers"),
    ],
)
def test_each_thing_that_a_tie_may_bring_is_named(candidate: Traits, named: str) -> None:
    rule = judge(candidate, (0.0, 1.0))
    assert rule.outcome == "pass" and named in rule.reason


@pytest.mark.parametrize(
    "candidate",
    [
        replace(SAME, data=None),
        replace(SAME, size=96_000_000),
        replace(SAME, size=None),
        replace(SAME, speed=speed(108.0)),  # 1.08 * 0.98 / 1.02 is less than 1.05
        replace(SAME, speed=speed(120.0, None)),  # nobody knows by how much boots differ
        replace(SAME, speed=Speed({}, None)),
    ],
)
def test_what_is_within_the_noise_or_unknown_is_no_gain(candidate: Traits) -> None:
    assert judge(candidate, (0.0, 1.0)).outcome == "fail"


def test_better_in_one_of_several_metrics_is_a_gain_only_beyond_chance_for_all_of_them() -> None:
    assert judge(SAME, (0.05, 0.08)).outcome == "pass"  # one-sided 0.04
    assert judge(SAME, (0.05, 0.08), (0.0, 1.0), (0.0, 1.0)).outcome == "fail"
    rule = judge(SAME, (0.05, 0.01), (0.0, 1.0), (0.0, 1.0))
    assert rule.outcome == "pass" and "better m0 by +0.050" in rule.reason
    assert judge(SAME, (-0.05, 0.001)).outcome == "fail"
