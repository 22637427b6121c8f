"""The gate's rules on how answers look, whatever they say: verbosity, cut-off answers, repetition.

Point estimates against limits; a rule never passes on fewer items than `gate.min_items`.

    verbosity    mean answer tokens of the candidate / of the unquantized merge, on the same prompts
    cut_off      share of answers that end at evaluate.max_new_tokens (finish_reason `length`)
    repetition   mean share of repeated 8-grams over long answers (see `repetition`); without one there is no rule
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.config.gate import GateConfig
from slipway.evaluation.gate_rules import Outcome, Rule, too_few

CUT = "length"  # OpenAI's finish_reason of an answer that met max_tokens


def cut_off_share(metrics: Mapping[str, Any]) -> float:
    """Share of answers that end at the token limit, of an evaluation's `metrics.json`."""
    return int(metrics["finish"].get(CUT, 0)) / int(metrics["n"])


def answer_rules(candidate: Mapping[str, Any], merged: Mapping[str, Any], params: GateConfig) -> Iterator[Rule]:
    """The rules whose limits are set. `candidate`, `merged`: their `metrics.json`."""
    n, least = candidate["n"], params.min_items
    if params.max_verbosity is not None and merged["answer_tokens"] is not None:
        yield _verbosity(candidate, merged, params.max_verbosity, least)
    if params.max_cut_off is not None:
        reason = "of the answers end at evaluate.max_new_tokens"
        yield _limited("cut_off", "limit", cut_off_share(candidate), params.max_cut_off, reason, n, least)
    if params.max_repetition is not None and candidate["long_answers"]:
        reason = f"of the 8-grams in {candidate['long_answers']} long answers are repeated"
        share = float(candidate["repeated_8grams"])
        yield _limited("repetition", "limit", share, params.max_repetition, reason, n, least)


def skipped_answer_rules(merged: Mapping[str, Any], params: GateConfig) -> list[str]:
    """The rules that are set and cannot be applied, with the reason: a merge that is streamed writes no answers."""
    if params.max_verbosity is None or merged["answer_tokens"] is not None:
        return []
    return ["verbosity against merged: it was not served"]


def _verbosity(candidate: Mapping[str, Any], merged: Mapping[str, Any], most: float, least: int) -> Rule:
    ours, theirs = candidate["answer_tokens"], merged["answer_tokens"]
    if not theirs:
        reason = f"the unquantized merge answers nothing, the candidate {ours:.1f} tokens: there is no ratio"
        return Rule("verbosity", "answer_tokens", "merged", None, most, None, None, "inconclusive", reason, 0)
    reason = f"times the merge's answer tokens ({ours:.1f} against {theirs:.1f})"
    return _limited("verbosity", "merged", ours / theirs, most, reason, candidate["n"], least)


def _limited(rule: str, against: str, value: float, most: float, what: str, n: int, least: int) -> Rule:
    """A rule on a value that may not exceed `most`. `what`: what the value is of, for the reason."""
    passed = value <= most
    reason = f"{value:.3f} {what}, {'at most' if passed else 'more than'} {most:.3f}"
    if passed and n < least:
        reason += f", but {too_few(n, least)}"
    outcome: Outcome = "inconclusive" if passed and n < least else "pass" if passed else "fail"
    metric = "answer_tokens" if rule == "verbosity" else rule
    return Rule(rule, metric, against, value, most, None, None, outcome, reason, n)
