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


@pytest.mark.parametrize(
    "scored",
    [
        [],
        items('{"a":2}'),
        items("wrong", expected="right"),
        items('{"a":1}', n=9) + items('{"a":', "length", n=1),
    ],
)
def test_wrong_answers_alone_are_no_mistake_around_the_model(scored: list[dict[str, Any]]) -> None:
    assert likely_causes(scored) == []
