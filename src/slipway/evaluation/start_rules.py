"""The gate's rules on how an engine starts: seconds of a warm start, and how far its speed differs from boot to boot.

Both read the figures that stage engine measured (`engines/boots.py`). A rule that is set and was not measured is
inconclusive: an engine whose warm start nobody has seen is not known to start warm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.config.gate_rows import GateRow
from slipway.evaluation.gate_rules import Outcome, Rule

LEAST_BOOTS = 3  # two boots may agree by chance


# rule -> figure of the engine's summary, its unit, boots that it needs
_FIGURES = {"warm_start": ("warm_start_s", "s", 1), "boot_spread": ("boot_speed_spread", "of the median", LEAST_BOOTS)}


def start_rule(figures: Mapping[str, Any], row: GateRow) -> Rule:
    """Rule `warm_start` or `boot_spread`, of an engine's summary `figures`."""
    rule, limit, boots = row.rule, row.number, figures.get("warm_starts", 0)
    metric, unit, least = _FIGURES[rule]
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
