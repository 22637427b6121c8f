"""Is the candidate good enough to replace what serves? Every rule passes, fails, or says that the items cannot tell.

- floor: the candidate's point estimate reaches the floor. The interval is shown beside it and decides nothing.
- non-inferiority: paired on the same items, d = candidate - reference, margin m, each end of the interval one-sided at
  `confidence`: pass when low > -m, fail when high < -m, else inconclusive.
- bits per parameter: the quantized checkpoint is no larger than its format says.

Any fail fails the gate; else any inconclusive rule leaves it inconclusive. Quality won by fine-tuning (merged - base) and lost
to quantization (merged - candidate, positive is a loss) are figures, not rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Literal

from slipway.artifacts import Evaluation, Quantized, Verdict, write_atomic
from slipway.config import GateConfig, NonInferiority
from slipway.errors import ConfigError, DataError, GateError
from slipway.jobs import Workspace
from slipway.statistics import Difference, items_to_decide, mcnemar_exact, paired_difference

OUTPUT = Verdict
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


def gate(
    candidate: Evaluation,
    merged: Evaluation,
    base: Evaluation,
    champion: Evaluation | None,
    quantized: Quantized,
    params: GateConfig,
    space: Workspace,
) -> None:
    """Write `verdict.json` and `summary.json`. A failed gate is a result, not an error: `require_pass` turns it into one.

    Raises DataError when two evaluations are not of the same items in the same order, ConfigError for an unknown metric or an
    empty gate.
    """
    items = {"candidate": _items(candidate), "merged": _items(merged), "base": _items(base)}
    if champion:
        items["champion"] = _items(champion)
    paired = [r for r in params.non_inferiority if r.against in items]
    rules = [*_floors(candidate, params), *(_non_inferiority(r, items, params.confidence) for r in paired), *_bits(quantized, params)]
    if not rules:
        raise ConfigError("gate", "no rule applies", "at least one floor or paired test", "set gate.floors")
    doc = {
        "outcome": overall([r.outcome for r in rules]),
        "rules": [asdict(r) for r in rules],
        "skipped": [f"{r.metric} against {r.against}: there is none yet" for r in params.non_inferiority if r not in paired],
        "finetuning_gain": _differences(items["merged"], items["base"], params.confidence, "base"),
        "quantization_cost": _differences(items["merged"], items["candidate"], params.confidence, "candidate"),
        "confidence": params.confidence,
    }
    write_atomic(space.out / "verdict.json", json.dumps(doc, indent=1) + "\n")
    write_atomic(space.out / "summary.json", json.dumps(_summary(doc), indent=1) + "\n")
    space.progress.note(f"gate: {doc['outcome']}, {len(rules)} rules")


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


def _floors(candidate: Evaluation, params: GateConfig) -> Iterator[Rule]:
    metrics = candidate.read_json("metrics.json")
    for name, floor in params.floors.items():
        if not isinstance(metrics.get(name), dict):
            raise ConfigError(f"gate.floors.{name}", "not measured", f"one of {', '.join(ITEM_KEYS)}", "mend the gate's YAML")
        m = metrics[name]
        passed = m["value"] >= floor
        reason = f"{name} {m['value']:.3f} (point estimate) is {'at least' if passed else 'below'} the floor {floor:.3f}"
        yield Rule("floor", name, "floor", m["value"], floor, m["low"], m["high"], "pass" if passed else "fail", reason, metrics["n"])


def _non_inferiority(rule: NonInferiority, items: dict[str, Items], confidence: float) -> Rule:
    pairs = _pairs(items["candidate"], items[rule.against], ITEM_KEYS[rule.metric], rule.against)
    d = _difference(pairs, 2 * confidence - 1)  # each end one-sided at `confidence`
    outcome: Outcome = "pass" if d.low > -rule.margin else "fail" if d.high < -rule.margin else "inconclusive"
    needed = items_to_decide(d.gained, d.lost, d.n, rule.margin, confidence) if outcome == "inconclusive" else None
    reason = f"{rule.metric} differs from {rule.against} by {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f}), margin {rule.margin:.3f}"
    if outcome == "inconclusive":
        reason += f": {d.n} items cannot tell, about {needed} would" if needed else f": {d.n} items cannot tell, it sits on the margin"
    return Rule("non_inferiority", rule.metric, rule.against, d.value, -rule.margin, d.low, d.high, outcome, reason, d.n, needed)


def _bits(quantized: Quantized, params: GateConfig) -> Iterator[Rule]:
    limit = params.max_bits_per_parameter
    if limit is None:
        return
    bits = quantized.summary.get("bits_per_parameter")
    if bits is None:
        raise DataError(f"summary of {quantized.uri}", "no bits_per_parameter", "the figure that quantize writes", "run quantize again")
    passed = bits <= limit
    reason = f"{bits:.2f} bits per quantized parameter {'are within' if passed else 'exceed'} {limit:.2f}"
    outcome: Outcome = "pass" if passed else "fail"
    yield Rule("bits_per_parameter", "bits_per_parameter", "format", bits, limit, None, None, outcome, reason)


def _items(evaluation: Evaluation) -> Items:
    with (evaluation.path / "items.jsonl").open() as f:
        return [json.loads(line) for line in f]


def _pairs(ours: Items, theirs: Items, key: str, against: str) -> list[tuple[bool, bool]]:
    """(candidate right, reference right) per item; the same ids in the same order, or DataError naming the first that differs."""
    for row, (a, b) in enumerate(zip_longest(ours, theirs)):
        left, right = (x["id"] if x else "nothing" for x in (a, b))
        if left != right:
            raise DataError(
                f"item {row + 1} of the paired test against {against}", f"{left} and {right}", "the same item on both sides",
                f"evaluate {against} on this test split",
            )  # fmt: skip
    return [(bool(a[key]), bool(b[key])) for a, b in zip(ours, theirs, strict=True)]


def _difference(pairs: list[tuple[bool, bool]], confidence: float) -> Difference:
    return paired_difference(pairs.count((True, False)), pairs.count((False, True)), len(pairs), confidence)


def _differences(ours: Items, theirs: Items, confidence: float, against: str) -> dict[str, dict[str, float]]:
    """Per metric: ours - theirs with a two-sided interval, and McNemar's exact p-value."""
    found = {}
    for metric, key in ITEM_KEYS.items():
        d = _difference(_pairs(ours, theirs, key, against), confidence)
        found[metric] = {"value": d.value, "low": d.low, "high": d.high, "p": mcnemar_exact(d.gained, d.lost)}
    return found


def _summary(doc: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": doc["outcome"], "rules": len(doc["rules"])}
    for outcome in ("fail", "inconclusive"):
        flat[f"rules_{outcome}"] = sum(r["outcome"] == outcome for r in doc["rules"])
    for name in ("finetuning_gain", "quantization_cost"):
        flat |= {f"{name}_{metric}": round(d["value"], 6) for metric, d in doc[name].items()}
    return flat
