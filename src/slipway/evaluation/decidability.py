"""Whether the test rows can settle the gate's paired rules, before anything is trained for it.

Known then are the margins, the levels and the number of rows, not how often two models will differ. That share is
assumed: one answer in ten, and equally good. Releases of one line differ in fewer answers as they get better, so the
figure is on the careful side for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.config.gate_rows import GateRow, against_of, rows_of
from slipway.errors import ConfigError
from slipway.evaluation.metric import PRIMARY
from slipway.evaluation.multiplicity import trial_alpha
from slipway.evaluation.paired_rules import BEST, PAIRED
from slipway.evaluation.shipped import Settings, scorers
from slipway.evaluation.statistics import items_needed
from slipway.evaluation.task import task_of

DIFFERING = 0.1
POWER = 0.8


@dataclass(frozen=True)
class Undecidable:
    """A paired rule that `items` test rows will probably leave open; `needed` settle it with probability POWER."""

    against: str
    metric: str
    margin: float
    items: int
    needed: int

    def __str__(self) -> str:
        return (
            f"gate: {self.items:,} test rows are few for a margin of {100 * self.margin:g} points of {self.metric} "
            f"against {self.against}: where both are as good and differ in {100 * DIFFERING:.0f} % of the answers, "
            f"some {self.needed:,} settle it in {100 * POWER:.0f} of 100 runs, and fewer often leave it inconclusive. "
            "Take more test rows (data.test_fraction, data.test_per_label) or a wider margin (gate.non_inferiority)"
        )


def undecidable(gate: GateConfig, evaluate: EvaluateConfig, data: Mapping[str, Any]) -> list[Undecidable]:
    """The rules on metrics that are right or wrong per item, and of which the rows in `data` (the summary of a dataset)
    are too few. Rules on other metrics are left out: their spread is not known before they are measured."""
    items = data.get("test_rows")
    if not items:
        return []
    rows = min(items, evaluate.max_items or items) if not gate.more_items else items
    judged = [(rule, _binary_metric(rule, evaluate, data)) for rule in rows_of(gate) if rule.rule == PAIRED]
    needs = [(rule, name, _needed(rule, gate), _some(rule, data, rows)) for rule, name in judged if name]
    return [Undecidable(against_of(rule), name, rule.margin, few, n) for rule, name, n, few in needs if n and n > few]


def _some(rule: GateRow, data: Mapping[str, Any], rows: int) -> int:
    """How many of `rows` test rows the rule judges; without earlier data none is new or fixed, and it is skipped."""
    return min(rows, int(data.get(f"test_rows_{rule.rows}", rows))) if rule.rows else rows


def _needed(rule: GateRow, gate: GateConfig) -> int | None:
    """By the formula with which an inconclusive rule says how many more would settle it."""
    alpha = rule.alpha
    if rule.against == BEST:
        alpha = trial_alpha(alpha, gate.trials)
    return items_needed(DIFFERING, 0.0, rule.margin, 1 - alpha, POWER) if rule.margin < 1 else None


def _binary_metric(rule: GateRow, evaluate: EvaluateConfig, data: Mapping[str, Any]) -> str:
    """The name of the rule's metric where it is 0 or 1 per item; empty where it is not, or where it cannot be built."""
    label_key, kind = data.get("label_key"), data.get("task")
    name = rule.metric
    if name == PRIMARY:
        if not kind:
            return ""
        name = task_of(evaluate, (kind[0], kind[1]), label_key).metrics[0]
    try:
        (scorer,) = scorers([name], Settings(evaluate, label_key))
    except ConfigError:  # streamed metrics are real ones; the judge's files are read later
        return ""
    return name if scorer.metric.kind == "binary" else ""
