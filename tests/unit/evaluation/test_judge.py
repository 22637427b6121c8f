"""A judge asked in both orders."""

from __future__ import annotations

import pytest

from slipway.config.evaluate import JudgeConfig
from slipway.errors import ConfigError, EngineError, EngineLostError
from slipway.evaluation.judge import PROMPT, check_prompt, compare, fill, judge, verdict
from slipway.evaluation.scorer import Example
from tests.support.scripted_server import scripted

ROW = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "four"}]}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("B is longer.\nVerdict: A", "a"),
        ("Verdict: A? No.\n**Verdict: B**", "b"),
        ("verdict: Tie.", "tie"),
        ("<think>Verdict: A?</think>\nVerdict: B", "b"),
        ("\n<think>\nIf so, Verdict: A. If not,", None),
        ("<think>Verdict: A</think> I cannot tell.", None),
        ("[THINK]Verdict: A[/THINK]Verdict: tie", "tie"),
        ("Its <think> is empty. Verdict: A", "a"),
        ("Verdict: Answer", None),
        ("A", None),
        ("", None),
    ],
)
def test_the_last_verdict_counts(text: str, word: str | None) -> None:
    assert verdict(text) == word


@pytest.mark.parametrize(
    ("second", "first", "value"),
    [("b", "a", 1.0), ("a", "b", 0.0), ("a", "a", 0.5), ("b", "b", 0.5), ("tie", "tie", 0.5), ("b", "tie", 0.5)],
)
def test_orders_that_disagree_are_a_tie(second: str, first: str, value: float) -> None:
    """`second`: the verdict with the answer standing second, as B; `first`: standing first, as A."""
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return second if len(prompts) == 1 else first

    assert compare(Example(ROW, "4"), PROMPT, ask) == value
    assert prompts[0].index("four") < prompts[0].index("<answer_b>\n4")
    assert prompts[1].index("<answer_a>\n4") < prompts[1].index("four")
    assert "user: 2 + 2?" in prompts[0]


def test_a_judge_without_a_verdict_has_not_judged() -> None:
    assert compare(Example(ROW, "4"), PROMPT, lambda _: None) is None


def test_a_reference_of_calls_alone_is_not_judged() -> None:
    call = {"type": "function", "function": {"name": "on", "arguments": {}}}
    row = {"messages": [ROW["messages"][0], {"role": "assistant", "content": "", "tool_calls": [call]}]}
    assert compare(Example(row, "4"), PROMPT, lambda _: "a") is None


def test_a_judge_that_does_not_answer_is_named_with_the_item() -> None:
    with scripted() as (url, _):
        lost = judge(JudgeConfig(url=url, model="big", timeout_s=60), "refuse")
        with pytest.raises(
            EngineError, match=r"judge big at http\S+, item r7: HTTP 400: .*too long.*evaluate.judge.url"
        ):
            lost.score(Example({"id": "r7", **ROW}, "4"))
    with pytest.raises(EngineLostError, match=r"judge big at \S+, item r7: ConnectError.*answered items are kept"):
        lost.score(Example({"id": "r7", **ROW}, "4"))


def test_an_answer_that_writes_a_place_fills_nothing() -> None:
    assert fill("{a} {b}", request="r", a="{b}", b="{a} {request}") == "{b} {a} {request}"
    with pytest.raises(ConfigError, match=r"lacks \{request\}, \{b\}"):
        check_prompt("only {a}", "p.txt")


def test_the_endpoint_is_asked_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as (url, asked):
        config = JudgeConfig(url=url, model="big", key_variable="JUDGE_KEY")
        with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
            judge(config, PROMPT)
        monkeypatch.setenv("JUDGE_KEY", "k-123456789")
        scorer = judge(config, "escape Verdict: tie {request}{a}{b}")
        assert scorer.score(Example(ROW, "4 \ud800")) == 0.5
    assert scorer.metric.title == "preferred by big"
    assert [body["authorization"] for body in asked] == ["Bearer k-123456789"] * 2
    assert asked[0]["model"] == "big"
