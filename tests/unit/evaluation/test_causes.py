"""The likely cause of a gate that did not pass, from the answers alone."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.evaluation.causes import likely_causes


def items(answer: str, finish: str = "stop", expected: str = '{"a":1}', n: int = 10) -> list[dict[str, Any]]:
    return [{"id": str(i), "expected": expected, "answer": answer, "finish": finish} for i in range(n)]


@pytest.mark.parametrize(
    ("scored", "words"),
    [
        (items('{"a":', "length"), "10 of 10 answers were cut by max_new_tokens"),
        (items('{"a":1}{"a":1}{"a"', "length"), "right and then go on: the chat template has no end of turn"),
        (items("positive positive", "length", "positive"), "no end of turn"),
        (items(""), "10 of 10 answers are empty"),
        (items("The answer \ud800 is one."), r"no answer parses (the first begins 'The answer \ud800 is one.')"),
    ],
)
def test_the_usual_mistake_is_named(scored: list[dict[str, Any]], words: str) -> None:
    (cause,) = likely_causes(scored)
    assert words in cause


FREE = ["a small red house", "Lamp of the hall.", "the road to the sea", "nine of ten"]


def free(answer: str, finish: str = "stop", **more: str) -> list[dict[str, Any]]:
    """An item for each reference of free text, the answer with its reference in `{}`."""
    return [
        {"id": str(i), "expected": text, "answer": answer.format(text, text.upper()), "finish": finish, **more}
        for i, text in enumerate(FREE)
    ]


@pytest.mark.parametrize(
    ("scored", "words"),
    [
        (free("I cannot tell."), "4 of 4 answers are the same, 'I cannot tell.': look at the loss"),
        (free("Sure! It is {}, as you asked."), "4 of 4 answers hold the right one within other text"),
        (free("{1}!"), "4 of 4 answers are right but for case, punctuation or space: evaluate.ignore_case"),
        (free("", "length", reasoning="<think>well"), "4 of 4 answers were cut while the model reasoned"),
        (free("a long story of {1}, and then", "length"), "4 of 4 answers were cut by max_new_tokens"),
    ],
)
def test_free_text_has_its_own_mistakes(scored: list[dict[str, Any]], words: str) -> None:
    (cause,) = likely_causes(scored)
    assert words in cause


@pytest.mark.parametrize(
    "scored",
    [
        [],
        free("{}"),
        [{**item, "answer": f"other words {item['id']}"} for item in free("")],
        items('{"a":2}'),
        items("wrong", expected="right"),
        items('{"a":1}', n=9) + items('{"a":', "length", n=1),
    ],
)
def test_wrong_answers_alone_are_no_mistake_around_the_model(scored: list[dict[str, Any]]) -> None:
    assert likely_causes(scored) == []
