"""Verbosity, cut-off answers and repetition as rules."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.evaluation.answer_rules import cut_off_rule, repetition_rules, verbosity_rule
from tests.support.gate_rows import rows


def document(tokens: float = 10, cut: int = 0, repeated: float | None = None, n: int = 100) -> dict[str, Any]:
    """The figures of `metrics.json` that the rules read."""
    finish = {"length": cut, "stop": n - cut}
    return {"n": n, "finish": finish, "answer_tokens": tokens, "long_answers": 5, "repeated_8grams": repeated or 0.0}


def outcomes(candidate: dict[str, Any], merged: dict[str, Any] | None = None, **params: Any) -> dict[str, str]:
    made: list[Any] = [verbosity_rule(candidate, merged or document(), one) for one in rows("verbosity", **params)]
    made += [cut_off_rule(candidate, one) for one in rows("cut_off", **params)]
    made += [rule for one in rows("repetition", **params) for rule in repetition_rules(candidate, one)]
    return {rule.rule: rule.outcome for rule in made}


def test_answers_like_the_merges_pass_every_rule() -> None:
    assert outcomes(document()) == {"verbosity": "pass", "cut_off": "pass", "repetition": "pass"}


@pytest.mark.parametrize(
    ("candidate", "failed"),
    [(document(tokens=15.1), "verbosity"), (document(cut=21), "cut_off"), (document(repeated=0.21), "repetition")],
)
def test_each_limit_fails_by_its_own_rule(candidate: dict[str, Any], failed: str) -> None:
    assert [rule for rule, outcome in outcomes(candidate).items() if outcome == "fail"] == [failed]


def test_limits_hold_at_their_own_value_and_null_takes_a_rule_away() -> None:
    at = document(tokens=15, cut=20, repeated=0.2)
    assert set(outcomes(at).values()) == {"pass"}
    assert outcomes(at, max_verbosity=None, max_cut_off=None, max_repetition=None) == {}


def test_few_items_never_pass_and_can_fail() -> None:
    few = document(n=5)
    assert set(outcomes(few).values()) == {"inconclusive"}
    assert outcomes(document(n=5, cut=5))["cut_off"] == "fail"


def test_no_long_answer_is_no_rule_and_no_ratio_no_pass() -> None:
    assert "repetition" not in outcomes({**document(), "long_answers": 0, "repeated_8grams": None})
    assert outcomes(document(), document(tokens=0))["verbosity"] == "inconclusive"
