"""The rules of the gate on one model: floors, bits per weight; and the verdict that all rules add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway.config.gate_kinds import Direction
from slipway.config.gate_rows import GateRow
from slipway.errors import DataError, GateError
from slipway.evaluation.metric import PRIMARY, SHARE, entries
from slipway.store.artifacts import Quantized, Verdict

Outcome = Literal["pass", "fail", "inconclusive"]
GAIN = "gain"  # the rule on what a candidate brings


@dataclass(frozen=True)
class Rule:
    """One rule applied, one row of every table: `value` against `expected`, with the interval of `value` where it has
    one; `value` is None where nothing was measured.

    `rule`: its kind. `against`: what the value is compared with. `unit`: of value, interval and threshold, `share` for
    0 to 1. `direction`: `at least` or `at most` `expected`. `alpha`: one-sided level of a test, `p` its p-value for
    "no worse than the margin"; None for a rule that tests nothing. `items_needed`: items that would settle it. `key`:
    the config key of the gate's row that this one comes from.
    """

    rule: str
    metric: str
    against: str
    value: float | None
    expected: float
    low: float | None
    high: float | None
    outcome: Outcome
    reason: str
    items: int | None = None
    items_needed: int | None = None
    unit: str = ""
    direction: Direction = "at most"
    alpha: float | None = None
    p: float | None = None
    key: str = ""


@dataclass(frozen=True)
class Skipped:
    """A rule that could not be applied, or figures without a limit: a sentence beside the rules, which decides
    nothing."""

    reason: str


def overall(outcomes: list[Outcome]) -> Outcome:
    """The worst outcome decides: fail, then inconclusive, then pass."""
    if "fail" in outcomes:
        return "fail"
    return "inconclusive" if "inconclusive" in outcomes else "pass"


def require_pass(verdict: Verdict) -> None:
    """Raise GateError naming every rule that did not pass, and the likely causes; return when the gate passed."""
    doc = verdict.read_json("verdict.json")
    if doc["outcome"] == "pass":
        return
    reasons = "; ".join(r["reason"] for r in doc["rules"] if r["outcome"] != "pass")
    causes = "; ".join(doc.get("causes", []))  # verdicts of before causes were looked for have none
    raise GateError(
        "gate",
        f"{doc['outcome']}: {reasons}",
        "every rule to pass",
        "nothing was promoted: " + (causes or "mend the model, the test set or the gate's rules"),
    )


def tie_reason(rules: Sequence[Mapping[str, Any]]) -> str:
    """Why the champion stays, where all that speaks against the candidate is that it brings nothing; else empty.
    `rules`: those of a `verdict.json`."""
    failed = [rule for rule in rules if rule["outcome"] == "fail"]
    return str(failed[0]["reason"]) if [rule["rule"] for rule in failed] == [GAIN] else ""


def wants_more_items(verdict: Verdict) -> bool:
    """Whether a first look at the test rows left a paired rule open that the other rows may settle."""
    return int(verdict.read_json("verdict.json").get("untested", 0)) > 0


def named(name: str, metrics: Mapping[str, Any]) -> str:
    """The metric that a rule means: `primary` is the evaluation's first."""
    return str(metrics["metrics"][0]["name"]) if name == PRIMARY and metrics["metrics"] else name


def floor_rule(metrics: Mapping[str, Any], row: GateRow) -> Rule:
    """The candidate's point estimate against the floor, from above where lower is better. A metric that was not
    measured, or on fewer items than `min_items`, is inconclusive. `metrics`: the candidate's `metrics.json`."""
    name, floor = named(row.metric, metrics), row.number
    entry = entries(metrics).get(name)
    if entry is None or entry["value"] is None:
        return unmeasured("floor", name, "floor", floor, metrics)
    value, better_low = entry["value"], entry["direction"] == "lower"
    wanted: Direction = "at most" if better_low else "at least"
    passed = value <= floor if better_low else value >= floor
    words = wanted if passed else ("above" if better_low else "below")
    reason = f"{name} {value:.3f} (point estimate) is {words} the floor {floor:.3f}"
    outcome: Outcome = "pass" if passed else "fail"
    if passed and entry["n"] < row.min_items:
        outcome, reason = "inconclusive", f"{reason}, but {too_few(entry['n'], row.min_items)}"
    ends = entry["low"], entry["high"]
    return Rule(
        "floor",
        name,
        "floor",
        value,
        floor,
        *ends,
        outcome,
        reason,
        entry["n"],
        unit=entry["unit"],
        direction=wanted,
    )


def unmeasured(rule: str, name: str, against: str, expected: float, metrics: Mapping[str, Any]) -> Rule:
    """An inconclusive rule whose metric the evaluation did not measure, or on no item; names those that it did."""
    measured = entries(metrics)
    others = ", ".join(n for n, entry in measured.items() if entry["n"]) or "none"
    what = "applies to no test item" if name in measured else "was not measured"
    reason = f"{name} {what} (measured: {others}): set evaluate.metrics or the gate's rules, gate.floors={{}} clears"
    return Rule(rule, name, against, None, expected, None, None, "inconclusive", reason, 0)


def too_few(items: int, least: int) -> str:
    """Why so few items decide nothing."""
    return f"{items} items are fewer than gate.min_items={least}"


def shown(value: float, unit: str, *, signed: bool = False) -> str:
    """A value in its unit, for a sentence: shares with three decimals, others with four digits and the unit."""
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if unit == SHARE else f"{value:{sign}.4g} {unit}".rstrip()


def bits_rule(quantized: Quantized, row: GateRow) -> Rule:
    """Bits per quantized parameter against the limit. Raises DataError when quantize left no figure."""
    limit = row.number
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
    return Rule("bits_per_parameter", "bits_per_parameter", "format", bits, limit, None, None, outcome, reason)
