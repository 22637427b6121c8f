from __future__ import annotations

from typing import Any

import pytest

from slipway.config.canary import CanaryConfig
from slipway.config.evaluate import JudgeConfig
from slipway.deployment.canary.paired_answers import Tally, judge_of, text_of
from slipway.errors import ConfigError, EngineError
from tests.support.scripted_server import scripted

REQUEST = {"messages": [{"role": "user", "content": "hello"}]}


def pair(champion: str, candidate: str, *, status: int = 200, reason: str = "") -> dict[str, Any]:
    return {
        "request": REQUEST,
        "champion": {"status": status, "text": champion},
        "candidate": {"text": candidate, "reason": reason},
    }


def test_each_kind_of_pair_counts_where_it_belongs() -> None:
    tally = Tally()
    tally.add(pair("a b", "a b"), None)
    tally.add(pair("a b", "a c"), None)
    tally.add(pair("a", "", reason="ConnectionRefusedError"), None)
    tally.add(pair("", "x", status=503), None)
    assert tally.figures() == {
        "compared": 2, "equal": 1, "unjudged": 1, "token_f1": 0.75, "passed_over": 1, "failed": 1,
        "reason": "ConnectionRefusedError",
    }  # fmt: skip
    assert (tally.quality.ties, tally.quality.pairs) == (1, 1)
    assert (tally.failures.ties, tally.failures.losses) == (2, 1)


def test_a_judge_decides_unequal_pairs_and_its_failures_are_no_verdicts() -> None:
    def judge(request: str, champion: str, candidate: str) -> float | None:
        assert request == "user: hello"
        if candidate == "broken":
            raise EngineError("judge", "HTTP 500", "a verdict", "read its log")
        return {"better": 1.0, "worse": -1.0, "same": 0.0}.get(candidate)

    tally = Tally()
    for text in ("better", "worse", "same", "unclear", "broken"):
        tally.add(pair("champion", text), judge)
    assert (tally.quality.wins, tally.quality.losses, tally.quality.ties) == (1, 1, 1)
    assert tally.unjudged == 2 and tally.reason == "judge: HTTP 500" and "worse" in tally.worst


def test_many_failures_or_many_lost_pairs_are_worse() -> None:
    failing, losing = Tally(), Tally()
    for _ in range(20):
        failing.add(pair("a", "", reason="HTTP 500"), None)
        losing.add(pair("a", "b"), lambda *_: -1.0)
    params = CanaryConfig()
    assert [one.outcome for one in failing.looks(params)] == ["worse", "not_enough"]
    assert [one.outcome for one in losing.looks(params)][1] == "worse"


def test_a_judge_is_asked_in_both_orders_and_two_that_disagree_are_a_tie() -> None:
    """The scripted server repeats the prompt, whose last verdict is "tie"."""
    with scripted() as (url, asked):
        judge = judge_of(JudgeConfig(url=url, model="j"))
        assert judge("x", "one", "two") == 0.0
    first, second = (body["messages"][0]["content"] for body in asked)
    assert "<answer_a>\none\n" in first and "<answer_b>\ntwo\n" in first
    assert "<answer_a>\ntwo\n" in second and "<answer_b>\none\n" in second


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"deploy\.canary\.judge\.key_variable"):
        judge_of(JudgeConfig(url="http://127.0.0.1:9/v1", model="j", key_variable="NO_SUCH_KEY"))


def test_any_request_can_be_read() -> None:
    assert text_of(REQUEST) == "user: hello"
    assert text_of({"prompt": "x"}) == "x" and text_of({}) == "" and text_of({"messages": [1]}) == ""
    assert text_of({"messages": [{"content": "y"}]}) == "user: y"
