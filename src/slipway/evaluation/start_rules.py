"""The gate's rules on how an engine starts: seconds of a warm start, and how far its speed differs from boot to boot.

Both read the figures that stage engine measured (`engines/boots.py`). A rule that is set and was not measured is
inconclusive: an engine whose warm start nobody has seen is not known to start warm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.config.gate import GateConfig
from slipway.evaluation.gate_rules import Outcome, Rule

LEAST_BOOTS = 3  # two boots may agree by chance


def start_rules(figures: Mapping[str, Any], params: GateConfig) -> Iterator[Rule]:
    """The rules that are set, of an engine's summary `figures`."""
    warm = figures.get("warm_starts", 0)
    if params.max_warm_start_s is not None:
        yield _rule("warm_start", "warm_start_s", "s", figures, params.max_warm_start_s, warm, 1)
    if params.max_boot_spread is not None:
        yield _rule(
            "boot_spread", "boot_speed_spread", "of the median", figures, params.max_boot_spread, warm, LEAST_BOOTS
        )


def _rule(rule: str, metric: str, unit: str, figures: Mapping[str, Any], limit: float, boots: int, least: int) -> Rule:
    value = figures.get(metric)
    if value is None or boots < least:
        reason = f"{metric}: {boots} warm starts were measured, {least} are needed: set engine.boots.warm"
        return Rule(rule, metric, "limit", value, limit, None, None, "inconclusive", reason, boots, least)
    passed = value <= limit
    reason = f"{metric} {value:.4g} {unit} over {boots} warm starts {'is within' if passed else 'exceeds'} {limit:.4g}"
    if passed and figures.get("boots_still_compiling"):
        reason = f"{reason}, but {figures['boots_still_compiling']} boots still compiled when warm-up ended"
        return Rule(rule, metric, "limit", value, limit, None, None, "inconclusive", reason, boots)
    outcome: Outcome = "pass" if passed else "fail"
    return Rule(rule, metric, "limit", value, limit, None, None, outcome, reason, boots)
