"""Two models on the same test items: the non-inferiority test of a metric, and what fine-tuning and quantization did.

Every test is paired, candidate minus reference per item. A binary metric has Tango's score interval on the discordant
pairs (`statistics`), for the effective number of items where templates are shared; a real one Student's interval with
the cluster-robust variance (`clusters`). Differences are signed so that positive is better in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil
from typing import Any

from slipway.config.gate_rows import GateRow
from slipway.errors import DataError
from slipway.evaluation.clusters import effective_items, paired_mean
from slipway.evaluation.gate_rules import Outcome, Rule, named, shown, too_few, unmeasured
from slipway.evaluation.metric import PRIMARY, SHARE, Item, Metric, clusters_of, entries, finite, metric_of, values_of
from slipway.evaluation.multiplicity import holm
from slipway.evaluation.statistics import items_to_decide, mcnemar_exact, non_inferiority_p, paired_difference

PAIRED = "non_inferiority"
BEST = "best"  # the reference that each candidate of a line is held to, beside the champion


@dataclass(frozen=True)
class Evaluated:
    """One evaluation's documents: its scored items and `metrics.json`."""

    items: Sequence[Item]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Pairs:
    """The items that have a value of one metric on both sides, and that metric's values there, in one order."""

    metric: Metric
    ours: list[float]
    theirs: list[float]
    clusters: list[str]
    answered: bool  # whether any of these items has an answer with a character in it, on either side


@dataclass(frozen=True)
class PairedDifference:
    """Ours minus theirs, positive is better, with a two-sided interval (unbounded for a single cluster), the p-value
    of no difference, and how many items would decide against a margin."""

    value: float
    low: float
    high: float
    p: float
    n: int
    clusters: int
    gained: float = 0
    lost: float = 0
    effective: float = 0


def pair(ours: Sequence[Item], theirs: Sequence[Item], metric: Metric, against: str) -> Pairs:
    """Raises DataError naming the first item that is not the same on both sides."""
    for row, (a, b) in enumerate(zip_longest(ours, theirs)):
        left, right = (x["id"] if x else "nothing" for x in (a, b))
        if left != right:
            raise DataError(
                f"item {row + 1} of the paired test against {against}",
                f"{left} and {right}",
                "the same item on both sides",
                f"evaluate {against} on this test split",
            )
    both = [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if a["metrics"].get(metric.name) is not None and b["metrics"].get(metric.name) is not None
    ]
    left_items, right_items = [a for a, _ in both], [b for _, b in both]
    # an item without the key `answer` comes from a measurement that generates nothing: there is no answer to be empty
    answered = any(str(item.get("answer", "-")).strip() for item in left_items + right_items)
    return Pairs(
        metric,
        values_of(left_items, metric.name),
        values_of(right_items, metric.name),
        clusters_of(left_items),
        answered,
    )


def difference(pairs: Pairs, confidence: float) -> PairedDifference:
    """The paired difference of at least one item, by the test of the metric's kind."""
    sign = -1 if pairs.metric.direction == "lower" else 1
    each = [sign * (a - b) for a, b in zip(pairs.ours, pairs.theirs, strict=True)]
    if pairs.metric.kind == "real":
        mean = paired_mean(each, pairs.clusters, confidence)
        return PairedDifference(mean.value, mean.low, mean.high, mean.p, mean.n, mean.clusters)
    gained, lost, n = each.count(1), each.count(-1), len(each)
    share = effective_items(each, pairs.clusters) / n
    better, worse = gained * share, lost * share
    effective = max(n * share, better + worse)  # a rounding of 1e-16 must not make more pairs than items
    d = paired_difference(better, worse, effective, confidence)
    groups = len(set(pairs.clusters))
    p = mcnemar_exact(gained, lost) if groups == n else paired_mean(each, pairs.clusters, confidence).p
    return PairedDifference(d.value, d.low, d.high, p, n, groups, better, worse, effective)


def non_inferiority_rule(rule: GateRow, evaluated: Mapping[str, Evaluated], alpha: float | None = None) -> Rule:
    """The paired test of one metric against one reference: passes when the whole interval is above -margin.

    Inconclusive when the metric was not measured on both sides, on too few items, or when both sides are all wrong or
    all empty: then the difference says nothing of either. `alpha`: one-sided level of this test where it is not
    the row's own (`multiplicity.trial_alpha`, `look_alpha`). Raises DataError when the items differ.
    """
    ours, theirs = evaluated["candidate"], evaluated[rule.against]
    name = _metric_of_both(rule.metric, ours.metrics, theirs.metrics)
    for side in (ours, theirs):
        if name not in entries(side.metrics):
            return unmeasured(PAIRED, name, rule.against, -rule.margin, side.metrics)
    metric = metric_of(entries(ours.metrics)[name])
    pairs = pair(ours.items, theirs.items, metric, rule.against)
    if not pairs.ours:
        return unmeasured(PAIRED, name, rule.against, -rule.margin, ours.metrics)
    level = "" if alpha is None or alpha == rule.alpha else f" at a level of {alpha:.3g}"
    alpha = rule.alpha if alpha is None else alpha
    d = difference(pairs, 1 - 2 * alpha)  # each end one-sided at 1 - alpha
    reason = (
        f"{name} differs from {rule.against} by {shown(d.value, metric.unit, signed=True)} "
        f"({shown(d.low, metric.unit, signed=True)} to {shown(d.high, metric.unit, signed=True)}), margin "
        f"{shown(rule.margin, metric.unit)}{level}"
    )
    outcome, why, needed = _judge(pairs, d, rule, alpha)
    return Rule(
        PAIRED,
        name,
        rule.against,
        d.value,
        -rule.margin,
        finite(d.low),
        finite(d.high),
        outcome,
        reason + (f": {why}" if why else ""),
        d.n,
        needed,
        unit=metric.unit,
        direction="at least",
        alpha=alpha,
        p=_p_of_margin(pairs, d, rule.margin),
    )


def without_chance_fails(rules: Sequence[Rule], alpha: float) -> list[Rule]:
    """The rules, in which a paired one fails only if it still does at a level that holds for all paired rules together
    (Holm): with many of them one fails by chance. What fails no more is inconclusive, and says so."""
    family = [at for at, rule in enumerate(rules) if rule.rule == PAIRED and rule.p is not None]
    fails = dict(zip(family, holm([1 - (rules[at].p or 0.0) for at in family], alpha), strict=True))
    return [
        replace(
            rule,
            outcome="inconclusive",
            reason=f"{rule.reason}: below the margin, but one of {len(family)} tests may be so by chance",
        )
        if rule.outcome == "fail" and fails.get(at) is False
        else rule
        for at, rule in enumerate(rules)
    ]


def _p_of_margin(pairs: Pairs, d: PairedDifference, margin: float) -> float:
    """One-sided p-value of "worse by `margin` or more", by the test whose interval is shown."""
    if pairs.metric.kind == "binary":
        return non_inferiority_p(d.gained, d.lost, d.effective, margin)
    sign = -1 if pairs.metric.direction == "lower" else 1
    above = [sign * (a - b) + margin for a, b in zip(pairs.ours, pairs.theirs, strict=True)]
    mean = paired_mean(above, pairs.clusters, 0.9)
    return mean.p / 2 if mean.value > 0 else 1 - mean.p / 2


def _metric_of_both(key: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The metric that a rule means: `primary` is the candidate's first that the other side has values of too; a merge
    that is only streamed has no answers, and is compared by the likelihood of the reference answers."""
    others = {name for name, entry in entries(theirs).items() if entry["n"]}
    common = (name for name, entry in entries(ours).items() if entry["n"] and name in others)
    return next(common, named(key, ours)) if key == PRIMARY else key


def _judge(pairs: Pairs, d: PairedDifference, rule: GateRow, alpha: float) -> tuple[Outcome, str, int | None]:
    """Outcome, what keeps it from being decided, and the items that would decide it."""
    margin = rule.margin
    if d.high < -margin:
        return "fail", "", None
    if blank := _says_nothing(pairs, d, margin, rule.min_items):
        return "inconclusive", blank, None
    if d.low > -margin:
        return "pass", "", None
    needed = _items_needed(pairs, d, margin, 1 - alpha)
    tail = f"about {needed} would, {needed - d.n} more" if needed else "it sits on the margin"
    return "inconclusive", f"{d.n} items cannot tell, {tail}", needed


def _says_nothing(pairs: Pairs, d: PairedDifference, margin: float, least: int) -> str:
    """Why an interval above the margin would still be no evidence; empty when it is."""
    if not pairs.answered:
        return "every answer on both sides is empty"
    metric = pairs.metric
    if metric.direction == "higher" and metric.unit == SHARE and not any(pairs.ours) and not any(pairs.theirs):
        return "every item is wrong on both sides"
    if d.n < least:
        return too_few(d.n, least)
    if metric.kind == "real" and d.low == d.high and d.clusters < least:
        return f"all items differ alike and come from {d.clusters} templates only"
    if metric.unit == SHARE and margin >= 1:
        return "a margin of 1 is a loss of everything"
    return ""


def _items_needed(pairs: Pairs, d: PairedDifference, margin: float, confidence: float) -> int | None:
    """Items that would decide if everything stays as observed: by Lu and Bean for a binary metric; for a real one the
    interval's half width, which shrinks with the square root of the items, brought down to the distance from the
    margin."""
    if pairs.metric.kind == "binary":
        needed = items_to_decide(d.gained, d.lost, d.effective, margin, confidence)
        return ceil(needed * d.n / d.effective) if needed else None
    half, distance = (d.high - d.low) / 2, abs(d.value + margin)
    if not distance or finite(half) is None:
        return None
    return max(d.n + 1, ceil(d.n * (half / distance) ** 2))


def paired_differences(
    ours: Evaluated, theirs: Evaluated, confidence: float, against: str
) -> dict[str, dict[str, Any]]:
    """Per metric that both sides measured: ours - theirs in the direction that is better, with a two-sided interval
    (null where unbounded), p-value, items, and the metric's unit and title.

    Raises DataError when the two are not about the same items.
    """
    differences = {}
    for name, entry in entries(ours.metrics).items():
        pairs = pair(ours.items, theirs.items, metric_of(entry), against)
        if name in entries(theirs.metrics) and pairs.ours:
            d = difference(pairs, confidence)
            differences[name] = {
                "title": entry["title"],
                "unit": entry["unit"],
                "value": d.value,
                "low": finite(d.low),
                "high": finite(d.high),
                "p": d.p,
                "n": d.n,
            }
    return differences
