"""Rules on an engine's starts: within, beyond, not measured, too few boots, still compiling."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.evaluation.start_rules import start_rule
from tests.support.gate_rows import row, rows

MEASURED = {"warm_starts": 3, "warm_start_s": 70.0, "boot_speed_spread": 0.2}


@pytest.mark.parametrize(
    ("figures", "limits", "outcome"),
    [
        (MEASURED, {"max_warm_start_s": 70}, "pass"),
        (MEASURED, {"max_warm_start_s": 69.9}, "fail"),
        (MEASURED, {"max_boot_spread": 0.2}, "pass"),
        (MEASURED, {"max_boot_spread": 0.19}, "fail"),
        ({}, {"max_warm_start_s": 70}, "inconclusive"),
        ({"warm_starts": 2, "boot_speed_spread": 0.1}, {"max_boot_spread": 0.2}, "inconclusive"),
        ({**MEASURED, "boots_still_compiling": 1}, {"max_warm_start_s": 80}, "inconclusive"),
        ({**MEASURED, "boots_still_compiling": 1}, {"max_warm_start_s": 60}, "fail"),
    ],
)
def test_a_rule_decides_on_what_was_measured(figures: dict[str, Any], limits: dict[str, float], outcome: str) -> None:
    (key,) = limits
    rule = start_rule(figures, row(key.removeprefix("max_").removesuffix("_s"), **limits))
    assert rule.outcome == outcome
    assert rule.reason


def test_rules_that_are_not_set_decide_nothing() -> None:
    assert rows("warm_start") == rows("boot_spread") == []
