"""Records in the formats that people have, as rows."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from slipway.config.data import Column
from slipway.data.formats import COLUMNS, detect, renamed, to_row, unused
from slipway.data.rows import problem

CALL = {"name": "weather", "arguments": {"city": "Oslo"}}
OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"name": "weather", "parameters": {"type": "object"}}
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    row = to_row(record, detect(record))
    assert problem(row, None) is None
    return row


@pytest.mark.parametrize(
    ("record", "messages"),
    [
        ({"messages": [USER, ANSWER]}, [USER, ANSWER]),
        ({"messages": json.dumps([USER, ANSWER])}, [USER, ANSWER]),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}], "system": "s"},
            [{"role": "system", "content": "s"}, USER, ANSWER],
        ),
        ({"instruction": "hi", "input": "", "output": "ho"}, [USER, ANSWER]),
        ({"instruction": "do", "input": "it", "output": "ho"}, [{"role": "user", "content": "do\n\nit"}, ANSWER]),
        ({"instruction": "hi", "output": "ho", "history": [["hi", "ho"]]}, [USER, ANSWER, USER, ANSWER]),
        ({"instruction": "do", "input": 0, "output": "ho"}, [{"role": "user", "content": "do\n\n0"}, ANSWER]),
        ({"prompt": "hi", "completion": "ho"}, [USER, ANSWER]),
        ({"prompt": "hi", "completion": 0}, [USER, {"role": "assistant", "content": "0"}]),
        ({"prompt": [USER], "completion": [ANSWER]}, [USER, ANSWER]),
        ({"prompt": "[1] says", "completion": "ho"}, [{"role": "user", "content": "[1] says"}, ANSWER]),
        ({"messages": [{"role": "developer", "content": "s"}, USER, ANSWER]},
         [{"role": "system", "content": "s"}, USER, ANSWER]),
        ({"messages": [{**USER, "content": [{"type": "text", "text": "h"}, {"text": "i"}], "name": None}, ANSWER]},
         [USER, ANSWER]),
    ],
)  # fmt: skip
def test_every_format_becomes_messages(record: dict[str, Any], messages: list[Any]) -> None:
    assert row_of(record)["messages"] == messages


@pytest.mark.parametrize(
    "call",
    [
        {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
        {"role": "assistant", "tool_calls": [{"id": "c1", **CALL}]},
        {"role": "assistant", "content": "", "tool_calls": [{**OPENAI_CALL, "function": CALL}], "function_call": None},
    ],
)
def test_calls_become_one_form_with_arguments_as_an_object(call: dict[str, Any]) -> None:
    row = row_of({"messages": [USER, call, {"role": "tool", "content": "dry", "tool_call_id": "c1"}, ANSWER]})
    expected = {"type": "function", "id": "c1", "function": CALL}
    assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [expected]}


def test_older_and_sharegpt_calls_are_taken_too() -> None:
    old = row_of({"messages": [USER, {"role": "assistant", "content": None, "function_call": CALL},
                               {"role": "function", "name": "weather", "content": "dry"}, ANSWER]})  # fmt: skip
    turns = [("human", "hi"), ("function_call", json.dumps(CALL)), ("observation", "dry"), ("gpt", "ho")]
    shared = row_of(
        {"conversations": [{"from": who, "value": text} for who, text in turns], "tools": json.dumps([TOOL])}
    )
    assert old["messages"][1] == shared["messages"][1]
    assert [m["role"] for m in old["messages"]] == [m["role"] for m in shared["messages"]]
    assert shared["tools"] == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"body": "x"}, "columns 'body': expected messages, conversations"),
        ({}, "columns none"),
        ({"prompt": "x", "chosen": "a", "rejected": "b"}, "a preference pair"),
        ({"messages": [{**USER, "content": [{"type": "image_url", "image_url": "x" * 600_000}]}, ANSWER]},
         "messages[0].content[0] is a part of type 'image_url', only text is taken (drop the row)"),
        ({"messages": "not json"}, "messages is text that is no JSON"),
        ({"messages": {"role": "user"}}, "messages is missing or no list"),
        ({"messages": ["hi"]}, "messages[0] is not {role, content}"),
        ({"instruction": "x", "output": "y", "history": 3}, "history is 3, expected a list of pairs"),
        ({"instruction": [3], "output": "x"}, "instruction is [3], expected text"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]},
         "messages[1].tool_calls[0].arguments is text that is no JSON"),
    ],
)  # fmt: skip
def test_what_is_not_taken_has_a_short_reason(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as err:
        to_row(record, detect(record))
    assert reason in str(err.value)
    assert len(str(err.value)) < 400


@pytest.mark.parametrize(
    ("message", "reason"),
    [({**ANSWER, "weight": 0}, "has the key 'weight'"), ({**ANSWER, "role": "critic"}, "role is 'critic'"),
     ({**ANSWER, "content": None}, "content is None"), ({**ANSWER, "tool_calls": "f"}, "tool_calls is 'f'"),
     ({"role": "assistant", "content": "", "tool_calls": [3]}, "tool_calls[0] is no")],
)  # fmt: skip
def test_keys_and_roles_that_nobody_knows_are_left_for_the_check_to_name(message: dict[str, Any], reason: str) -> None:
    bad = problem(to_row({"messages": [USER, message]}, "chat"), None)
    assert bad is not None
    assert reason in bad


def test_the_config_takes_the_names_of_the_columns_that_are_read() -> None:
    assert set(get_args(Column)) == COLUMNS


def test_columns_are_mapped_and_others_counted() -> None:
    record = renamed({"question": "hi", "answer": "ho", "prompt": "old", "source": "web", "id": 7},
                     {"prompt": "question", "completion": "answer"})  # fmt: skip
    assert row_of(record) == {"id": "7", "messages": [USER, ANSWER]}
    assert unused(record, "pairs") == {"source"}
    assert renamed({"a": 1}, {}) == {"a": 1}
    with pytest.raises(ValueError, match=r"completion is missing \(data.format=pairs\)"):
        to_row({"prompt": "x"}, "pairs")


@pytest.mark.parametrize(
    ("record", "way_out"),
    [
        ({"text": "once upon a time"}, "split it into prompt and completion"),
        ({"version": 1, "data": [{"prompt": "hi"}]}, r"jq -c '\.\[\"data\"\]\[\]'"),
    ],
)
def test_a_record_that_is_no_row_has_a_way_out(record: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        detect(record)


@pytest.mark.parametrize("value", [True, 0.5, None])
def test_other_values_in_place_of_text_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"completion is .*, expected text"):
        to_row({"prompt": "hi", "completion": value}, "pairs")
