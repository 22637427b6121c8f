"""Rows in a file and their columns: what makes two rows equal, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.data.row_table import TableBuilder, digest64
from tests.support.tables import chat, every, table

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": 2}}}
TURNS = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    rows = [chat("a\u2028b", id="x", label="L", template="t"), chat("c", id="y", label="M", template="t")]
    made = table(rows)
    assert [made.row(i) for i in range(2)] == rows
    assert made.number.tolist() == [1, 2]
    assert [made.labels[i] for i in made.label] == ["L", "M"]
    made.write(tmp_path / "out.jsonl", np.array([1, 0]))
    assert (tmp_path / "out.jsonl").read_bytes() == made.line(1) + made.line(0)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    TableBuilder(tmp_path, 1).add(1, chat("a", id="a", label="l", template="t"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (chat("which language is C++"), chat("which language is C#")),
        (chat("x<y"), chat("x>y")),
        (chat("दिन"), chat("दीन")),
        (chat("fine 😀"), chat("fine 😢")),
        (chat("hi", system="be brief"), chat("hi", system="be long")),
        (chat("hi", system="be brief"), chat("hi")),
        ({"messages": [*TURNS, *chat("hi")["messages"]]}, chat("hi")),
        ({"messages": [*TURNS, *chat("hi")["messages"]]}, {"messages": [*TURNS[::-1], *chat("hi")["messages"]]}),
        (chat("hi", tools=[{"function": {"name": "f"}}]), chat("hi", tools=[{"function": {"name": "g"}}])),
        (chat("one two"), chat("one\0two")),
    ],
)
def test_the_whole_conversation_is_the_identity_of_a_row(a: dict[str, Any], b: dict[str, Any]) -> None:
    made = table([a, b, a])
    assert made.identity[0] != made.identity[1]
    assert made.identity[0] == made.identity[2]


def test_answers_are_equal_by_meaning() -> None:
    def calling(arguments: dict[str, Any]) -> dict[str, Any]:
        call = {**CALL, "function": {"name": "f", "arguments": arguments}}
        return {"messages": [TURNS[0], {"role": "assistant", "content": "", "tool_calls": [call]}]}

    made = table([chat("a", '{"x": 1, "y": 2}'), chat("a", '{"y":2,"x":1}'), calling({"a": 1, "b": 2}),
                  calling({"b": 2, "a": 1}), calling({"b": 2, "a": 3})])  # fmt: skip
    assert made.answer[0] == made.answer[1]
    assert made.answer[2] == made.answer[3] != made.answer[4]
    assert made.shapes[made.shape[0]] == {"x", "y"}


def test_case_and_spacing_do_not_change_the_text_that_is_compared() -> None:
    made = table([chat("Lamp  on"), chat("lamp on"), chat("lamp on!")])
    assert made.text[0] == made.text[1] != made.text[2]
    assert made.wording[0] == made.wording[1] == made.wording[2]
    assert len(set(made.identity.tolist())) == 3


def test_words_of_the_system_prompt_come_first_and_are_counted() -> None:
    made = table([chat("one two", system="three"), chat("one two")])
    assert made.system_words.tolist() == [1, 0]
    first, second = (made.words[made.word_starts[i] : made.word_starts[i + 1]] for i in range(2))
    assert first[1:].tolist() == second.tolist()
    assert made.wording[0] == made.wording[1]


def test_an_empty_table_is_one() -> None:
    made = table([])
    assert (len(made), every(made).tolist()) == (0, [])


def test_digests_take_half_surrogates_and_names_say_where_templates_come_from() -> None:
    assert digest64("\ud800") != digest64("\udfff")
    assert table([chat("a", template="t"), chat("b")]).named.tolist() == [1, 0]
