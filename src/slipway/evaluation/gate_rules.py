"""The rules of the gate: floors, non-inferiority against what serves, bits per weight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from slipway.config.gate import GateConfig, NonInferiority
from slipway.errors import ConfigError, DataError, GateError
from slipway.evaluation.statistics import Difference, items_to_decide, mcnemar_exact, paired_difference
from slipway.store.artifacts import Evaluation, Quantized, Verdict

# metric of metrics.json -> the per-item truth value it is the mean of
ITEM_KEYS = {"exact_match": "exact_match", "intent_accuracy": "intent_correct"}

Outcome = Literal["pass", "fail", "inconclusive"]
Items = list[dict[str, Any]]


@dataclass(frozen=True)
class Rule:
    """One rule applied: `value` against `expected`, with the interval of `value` where it has one."""

    rule: str
    metric: str
    against: str
    value: float
    expected: float
    low: float | None
    high: float | None
    outcome: Outcome
    reason: str
    items: int | None = None
    items_needed: int | None = None


def overall(outcomes: list[Outcome]) -> Outcome:
    """The worst outcome decides: fail, then inconclusive, then pass."""
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def require_pass(verdict: Verdict) -> None:
    """Raise GateError naming every rule that did not pass; return when the gate passed."""
    doc = verdict.read_json("verdict.json")
    if doc["outcome"] == "pass":
        return
    reasons = "; ".join(r["reason"] for r in doc["rules"] if r["outcome"] != "pass")
    raise GateError(
        "gate",
        f"{doc['outcome']}: {reasons}",
        "every rule to pass",
        "nothing was promoted: mend the model, the test set or the gate's rules",
    )


def floor_rules(candidate: Evaluation, params: GateConfig) -> Iterator[Rule]:
    """One rule a floor: the candidate's point estimate against it. Raises ConfigError for a metric not measured."""
    metrics = candidate.read_json("metrics.json")
    for name, floor in params.floors.items():
        if not isinstance(metrics.get(name), dict):
            raise ConfigError(
                f"gate.floors.{name}", "not measured", f"one of {', '.join(ITEM_KEYS)}", "mend the gate's YAML"
            )
        m = metrics[name]
        passed = m["value"] >= floor
        reason = (
            f"{name} {m['value']:.3f} (point estimate) is {'at least' if passed else 'below'} the floor {floor:.3f}"
        )
        yield Rule(
            "floor",
            name,
            "floor",
            m["value"],
            floor,
            m["low"],
            m["high"],
            "pass" if passed else "fail",
            reason,
            metrics["n"],
        )


def non_inferiority_rule(rule: NonInferiority, items: dict[str, Items], confidence: float) -> Rule:
    """The paired test of one metric against one reference: passes when the whole interval is above -margin.

    `items`: evaluation name -> its items. `confidence`: one-sided level of each end. Raises DataError when the items
    differ.
    """
    pairs = _paired_outcomes(items["candidate"], items[rule.against], ITEM_KEYS[rule.metric], rule.against)
    d = _difference(pairs, 2 * confidence - 1)  # each end one-sided at `confidence`
    outcome: Outcome = "pass" if d.low > -rule.margin else "fail" if d.high < -rule.margin else "inconclusive"
    needed = items_to_decide(d.gained, d.lost, d.n, rule.margin, confidence) if outcome == "inconclusive" else None
    reason = (
        f"{rule.metric} differs from {rule.against} by {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f}), margin "
        f"{rule.margin:.3f}"
    )
    if outcome == "inconclusive":
        reason += (
            f": {d.n} items cannot tell, about {needed} would"
            if needed
            else f": {d.n} items cannot tell, it sits on the margin"
        )
    return Rule(
        "non_inferiority", rule.metric, rule.against, d.value, -rule.margin, d.low, d.high, outcome, reason, d.n, needed
    )


def bits_rules(quantized: Quantized, params: GateConfig) -> Iterator[Rule]:
    """The rule on bits per quantized parameter, when there is a limit. Raises DataError when quantize left no
    figure."""
    limit = params.max_bits_per_parameter
    if limit is None:
        return
    bits = quantized.summary.get("bits_per_parameter")
    if bits is None:
        raise DataError(
            f"summary of {quantized.uri}",
            "no bits_per_parameter",
            "the figure that quantize writes",
            "run quantize again",
        )
    passed = bits <= limit
    reason = f"{bits:.2f} bits per quantized parameter {'are within' if passed else 'exceed'} {limit:.2f}"
    outcome: Outcome = "pass" if passed else "fail"
    yield Rule("bits_per_parameter", "bits_per_parameter", "format", bits, limit, None, None, outcome, reason)


def read_items(evaluation: Evaluation) -> Items:
    """The scored items of an evaluation, in their order."""
    with (evaluation.path / "items.jsonl").open(encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def _paired_outcomes(ours: Items, theirs: Items, key: str, against: str) -> list[tuple[bool, bool]]:
    """(candidate right, reference right) per item; the same ids in the same order, or DataError naming the first that
    differs."""
    for row, (a, b) in enumerate(zip_longest(ours, theirs)):
        left, right = (x["id"] if x else "nothing" for x in (a, b))
        if left != right:
            raise DataError(
                f"item {row + 1} of the paired test against {against}",
                f"{left} and {right}",
                "the same item on both sides",
                f"evaluate {against} on this test split",
            )
    return [(bool(a[key]), bool(b[key])) for a, b in zip(ours, theirs, strict=True)]


def _difference(pairs: list[tuple[bool, bool]], confidence: float) -> Difference:
    return paired_difference(pairs.count((True, False)), pairs.count((False, True)), len(pairs), confidence)


def paired_differences(ours: Items, theirs: Items, confidence: float, against: str) -> dict[str, dict[str, float]]:
    """Per metric: ours - theirs with a two-sided interval, and McNemar's exact p-value.

    Raises DataError when the two are not about the same items.
    """
    differences = {}
    for metric, key in ITEM_KEYS.items():
        d = _difference(_paired_outcomes(ours, theirs, key, against), confidence)
        differences[metric] = {"value": d.value, "low": d.low, "high": d.high, "p": mcnemar_exact(d.gained, d.lost)}
    return differences
