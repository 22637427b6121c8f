"""A rule of the gate as the cells of a table, the same in the terminal, the report, the card and the Prefect UI.

Shares are shown in percent, their differences in percentage points. A verdict of an earlier version has no units: its
numbers are shown as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.config.gate_kinds import KINDS
from slipway.evaluation.metric import SHARE
from slipway.evaluation.paired_rules import PAIRED

COLUMNS = ("rule", "value", "interval", "threshold", "outcome", "because")
_PLAIN = {"floor", "limit", "format", "target"}  # references that say nothing beside the rule's name


def rule_cells(rule: Mapping[str, Any]) -> dict[str, str]:
    """The cells under `COLUMNS` of one rule of a `verdict.json`; empty where there is nothing to show."""
    low, high = (_number(rule, rule.get(end)) for end in ("low", "high"))
    metric = str(rule["metric"])
    against = "" if rule["against"] in _PLAIN else f" against {rule['against']}"
    return {
        "rule": (metric if metric.startswith(rule["rule"]) else f"{rule['rule']} {metric}") + against,
        "value": _number(rule, rule["value"], unit=True),
        "interval": f"{low or '-inf'} to {high or 'inf'}" if low or high else "",
        "threshold": f"{_direction(rule)} {_number(rule, rule['expected'], unit=True)}",
        "outcome": str(rule["outcome"]),
        "because": str(rule["reason"]),
    }


def rule_figures(verdict: Mapping[str, Any]) -> dict[str, float]:
    """`gate.<rule>.<metric>.<against>` of every rule that has a value, for a table of runs."""
    return {
        f"gate.{rule['rule']}.{rule['metric']}.{rule['against']}": float(rule["value"])
        for rule in verdict["rules"]
        if rule["value"] is not None
    }


def _direction(rule: Mapping[str, Any]) -> str:
    kind = KINDS.get(rule["rule"])
    direction = rule.get("direction") or (kind.direction if kind else "at most")
    return ">=" if direction == "at least" else "<="


def _number(rule: Mapping[str, Any], value: float | None, *, unit: bool = False) -> str:
    """A value in the rule's unit, with its name where asked for; differences are signed."""
    if value is None:
        return ""
    sign = "+" if rule["rule"] == PAIRED else ""
    name = str(rule.get("unit") or "")
    if name == SHARE:
        return f"{100 * value:{sign}.1f}" + ((" points" if sign else " %") if unit else "")
    return f"{value:{sign}.4g}" + (f" {name}" if unit and name else "")
