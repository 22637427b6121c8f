"""Calls of tools: by the endpoint's word or by the answer's text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.evaluation.scorer import Example
from slipway.evaluation.tool_metrics import tool_calls, tool_names


def example(expected: list[tuple[str, Any]], answer: str = "", calls: list[tuple[str, str]] | None = None) -> Example:
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    if expected:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in expected
        ]
    return Example({"messages": [message]}, answer, [{"name": n, "arguments": a} for n, a in calls or []])


LAMP = [("lamp", {"on": True, "level": 3})]


@pytest.mark.parametrize(
    ("calls", "same", "named"),
    [
        ([("lamp", '{"level": 3.0, "on": true}')], 1, 1),
        ([("lamp", '{"on": true}')], 0, 1),
        ([("lamp", '{"on": 1, "level": 3}')], 0, 1),
        ([("lamp", '{"on": tru')], 0, 1),
        ([("fan", '{"on": true, "level": 3}')], 0, 0),
        ([("lamp", '{"on": true, "level": 3}')] * 2, 0, 0),
        ([], 0, 0),
    ],
)
def test_names_and_arguments_must_be_the_expected(calls: list[tuple[str, str]], same: float, named: float) -> None:
    scored = example(LAMP, calls=calls)
    assert (tool_calls().score(scored), tool_names().score(scored)) == (same, named)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"name": "lamp", "arguments": {"on": True, "level": 3}}),
        json.dumps([{"name": "lamp", "parameters": {"on": True, "level": 3}}]),
        json.dumps({"function": {"name": "lamp", "arguments": '{"on": true, "level": 3}'}}),
        'I do.\n<tool_call>\n{"name": "lamp", "arguments": {"on": true, "level": 3}}\n</tool_call>',
    ],
)
def test_a_call_written_as_text_counts(answer: str) -> None:
    assert tool_calls().score(example(LAMP, answer)) == 1


def test_a_row_without_calls_expects_none() -> None:
    assert tool_calls().score(example([], "It is on already.")) == 1
    assert tool_calls().score(example([], calls=[("lamp", "{}")])) == 0


def test_no_arguments_are_an_empty_object() -> None:
    for arguments in ("", "{}", " "):
        assert tool_calls().score(example([("stop", {})], calls=[("stop", arguments)])) == 1


def test_two_calls_count_in_their_order() -> None:
    two = [("a", {}), ("b", {})]
    assert tool_calls().score(example(two, calls=[("a", "{}"), ("b", "{}")])) == 1
    assert tool_calls().score(example(two, calls=[("b", "{}"), ("a", "{}")])) == 0
