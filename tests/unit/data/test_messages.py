"""The form of messages: turns, calls and their results."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.data.messages import calls_of, messages_problem, tools_problem, written

USER = {"role": "user", "content": "rain in Oslo?"}
CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "", "name": "weather", "tool_call_id": "c1"}
ANSWER = {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, ANSWER],
        [{"role": "system", "content": "s"}, USER, ANSWER, USER, ANSWER],
        [USER, CALLING],
        [USER, CALLING, RESULT, RESULT, ANSWER],
        [USER, CALLING, RESULT, CALLING, RESULT, ANSWER, USER, ANSWER],
    ],
)
def test_sound_conversations(messages: list[Any]) -> None:
    assert messages_problem(messages) is None


def calling(**changes: Any) -> dict[str, Any]:
    return {**CALLING, "tool_calls": [{**CALL, **changes}]}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, RESULT], "messages[1].role tool cannot follow user"),
        ([USER, CALLING, USER, ANSWER], "messages[2].role user cannot follow assistant's call"),
        ([USER, CALLING, RESULT], "the last message is the tool's"),
        ([USER, {**ANSWER, "weight": 0}], "messages[1] has the key 'weight'"),
        ([USER, {**ANSWER, "content": None}], "messages[1].content is None, expected text"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "messages[0] has the key 'tool_calls'"),
        ([USER, {**CALLING, "tool_calls": []}], "messages[1].content is ''"),
        ([USER, {**ANSWER, "tool_calls": "f()"}], "messages[1].tool_calls is 'f()'"),
        ([USER, calling(function={"name": "f", "arguments": "{}"})], "arguments is '{}', expected an object"),
        ([USER, calling(function={"name": ""})], "tool_calls[0] is no {type, function"),
        ([USER, calling(type="code")], "tool_calls[0] has type 'code'"),
        ([USER, calling(index=0)], "tool_calls[0] has the unknown key 'index'"),
        ([USER, CALLING, {**RESULT, "name": 3}, ANSWER], "messages[2].name is 3, expected text"),
        ([3], "messages[0] is not {role, content}"),
        ([{"role": [], "content": "x"}], "messages[0].role is []"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(messages: list[Any], reason: str) -> None:
    problem = messages_problem(messages)
    assert problem is not None
    assert reason in problem


def test_tools_are_a_list_of_named_functions() -> None:
    assert tools_problem([{"type": "function", "function": {"name": "f"}}]) is None
    for bad in ([], {}, [3], [{"function": {}}], [{"name": "f"}]):
        assert tools_problem(bad) is not None
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    assert "nested deeper" in str(tools_problem([{"function": {"name": "f", "parameters": deep}}]))


def test_calls_are_listed_by_name_and_arguments() -> None:
    assert calls_of(CALLING) == [{"name": "weather", "arguments": {"city": "Oslo"}}]
    assert calls_of(ANSWER) == []


def test_what_an_assistant_writes_is_its_text_and_its_calls():
    call = {"type": "function", "function": {"name": "lamp", "arguments": {"on": True}}}
    assert written({"role": "assistant", "content": "yes"}) == "yes"
    assert written({"role": "assistant", "content": None, "tool_calls": [call]}) == "lamp{'on': True}"
