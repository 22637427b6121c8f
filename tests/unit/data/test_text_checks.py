"""Texts before a template writes them."""

import pytest

from slipway.data.problems import RowProblem
from slipway.data.text_checks import check_texts
from tests.support.chat_tokenizers import chat


def row(user: str, answer: str = "ok", **more) -> dict:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], **more}


@pytest.mark.parametrize(
    ("bad", "kind", "detail"),
    [
        (row("a\udc00b"), "surrogate", r"udc00 at character 2"),
        (row("a", tools=[{"name": "\ud83d"}]), "surrogate", "ud83d"),
        (row("say <|im_start|> now"), "control", r"<\|im_start\|> in messages\[0\] \(user\)"),
        (row("a", "stop<|im_end|>"), "control", r"<\|im_end\|> in messages\[1\] \(assistant\)"),
        (row("a", '{"x": {"k": 1, "k": 1}}'), "duplicate_key", r"'k' in messages\[1\]"),
        (row("a", '[{"k": 1, "k": 2}]'), "duplicate_key", "'k'"),
    ],
)
def test_what_cannot_be_learnt_as_it_is(bad, kind, detail):
    with pytest.raises(RowProblem, match=detail) as raised:
        check_texts(bad, chat("chatml"))
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    "good",
    [
        row("über 😀 दिन", '{"a": 1, "b": {"a": 1}}'),
        row("a < b <| c", "{not json, not json}"),
        row('{"k": 1, "k": 2}'),
        row("a", "[" * 100_000),
        row("a", "<think>why</think> because"),
    ],
)
def test_what_can(good):
    check_texts(good, chat("qwen3"))
