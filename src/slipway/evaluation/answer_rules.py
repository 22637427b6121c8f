"""The gate's rules on how answers look, whatever they say: verbosity, cut-off answers, repetition.

Point estimates against limits; a rule never passes on fewer items than `gate.min_items`.

    verbosity    mean answer tokens of the candidate / of the unquantized merge, on the same prompts
    cut_off      share of answers that end at evaluate.max_new_tokens (finish_reason `length`)
    repetition   mean share of repeated 8-grams over long answers (see `repetition`); without one there is no rule
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.config.gate_rows import GateRow
from slipway.evaluation.gate_rules import Outcome, Rule, Skipped, too_few
from slipway.evaluation.metric import CUT


def cut_off_share(metrics: Mapping[str, Any]) -> float:
    """Share of answers that end at the token limit, of an evaluation's `metrics.json`."""
    return int(metrics["finish"].get(CUT, 0)) / int(metrics["n"])


def verbosity_rule(candidate: Mapping[str, Any], merged: Mapping[str, Any], row: GateRow) -> Rule | Skipped:
    """A merge that is streamed writes no answers, which is said. `candidate`, `merged`: their `metrics.json`."""
    ours, theirs, most = candidate["answer_tokens"], merged["answer_tokens"], row.number
    if theirs is None:
        return Skipped("verbosity against merged: it was not served")
    if not theirs:
        reason = f"the unquantized merge answers nothing, the candidate {ours:.1f} tokens: there is no ratio"
        return Rule("verbosity", "answer_tokens", "merged", None, most, None, None, "inconclusive", reason, 0)
    reason = f"times the merge's answer tokens ({ours:.1f} against {theirs:.1f})"
    return _limited(row, "merged", ours / theirs, reason, candidate["n"])


def cut_off_rule(candidate: Mapping[str, Any], row: GateRow) -> Rule:
    """`candidate`: its `metrics.json`."""
    reason = "of the answers end at evaluate.max_new_tokens"
    return _limited(row, "limit", cut_off_share(candidate), reason, candidate["n"])


def repetition_rules(candidate: Mapping[str, Any], row: GateRow) -> Iterator[Rule]:
    """None where there is no long answer. `candidate`: its `metrics.json`."""
    if candidate["long_answers"]:
        reason = f"of the 8-grams in {candidate['long_answers']} long answers are repeated"
        yield _limited(row, "limit", float(candidate["repeated_8grams"]), reason, candidate["n"])


def _limited(row: GateRow, against: str, value: float, what: str, n: int) -> Rule:
    """A rule on a value that may not exceed the row's limit. `what`: what the value is of, for the reason."""
    rule, most, least = row.rule, row.number, row.min_items
    passed = value <= most
    reason = f"{value:.3f} {what}, {'at most' if passed else 'more than'} {most:.3f}"
    if passed and n < least:
        reason += f", but {too_few(n, least)}"
    outcome: Outcome = "inconclusive" if passed and n < least else "pass" if passed else "fail"
    metric = "answer_tokens" if rule == "verbosity" else rule
    return Rule(rule, metric, against, value, most, None, None, outcome, reason, n)
