"""Rows: what a line may be, how it is refused, and the keys by which rows are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.data.rows import (
    Rejected,
    answer_json,
    answer_key,
    check_file,
    problem,
    prompt,
    read_rows,
    refuse,
    write_rows,
)
from slipway.errors import DataError


def row(ask: str = "On please!", answer: str = '{"intent":"On"}', **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **more}


def test_rows_are_written_and_read_back_as_they_are(tmp_path: Path) -> None:
    rows = [row("Wärmer bitte"), row("dim\nit", id="b", template="t")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2
    assert read_rows(tmp_path / "rows.jsonl", "intent") == rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(x=1), "unknown key 'x'"),
        (row(id=" "), "id is ' '"),
        ({"messages": []}, "messages is empty"),
        ({}, "messages is missing or no list"),
        ({"messages": [{"role": "user"}]}, "messages[0] is not {role, content}"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role is 'bot'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "assistant cannot follow the start"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content is ''"),
        ({"messages": [{"role": "user", "content": "x"}]}, "the last message is the user's"),
        (row(answer="yes"), "no JSON object"),
        (row(answer='{"intent":"On","intent":"Off"}'), "no JSON object (key 'intent' stands twice in one object)"),
        (row(tools=[{}]), "tools[0] is no {type: function"),
        (row(answer='{"action": 1}'), "lacks 'intent'"),
        (row(answer='{"intent": 1}'), "has intent=1, expected text"),
        (row(label="Off"), "label is 'Off' but the assistant's JSON says 'On'"),
    ],
)
def test_what_is_wrong_with_a_row(bad: dict[str, Any], reason: str) -> None:
    refusal = problem(bad, "intent")
    assert refusal is not None
    assert reason in refusal


def test_a_sound_row_has_no_problem_and_free_text_needs_no_json() -> None:
    assert problem(row(label="On"), "intent") is None
    assert problem(row(answer="yes"), None) is None


def test_lines_are_numbered_and_ids_are_unique(tmp_path: Path) -> None:
    lines = [json.dumps(row(id="a")), "", "{", json.dumps(row("two", id="a")), "[1]", '{"messages": NaN}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    good, bad = check_file(tmp_path / "rows.jsonl", "intent")
    assert [numbered.number for numbered in good] == [1]
    assert [rejected.line for rejected in bad] == [3, 4, 5, 6]
    assert "also on line 1" in bad[1].reason
    assert "a JSON list, expected an object" in bad[2].reason
    assert "NaN" in bad[3].reason


def test_ten_bad_lines_are_shown_and_the_others_counted() -> None:
    bad = [Rejected("f", n, "wrong") for n in range(1, 13)]
    with pytest.raises(DataError, match=r"12 bad of 15 rows:[\s\S]*f:10: wrong\n  and 2 more"):
        refuse(bad, 3)
    refuse([], 3)


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe", "not UTF-8"), (b"\n\n", "empty")])
def test_a_file_of_no_rows_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_file(tmp_path / "f", None)
    with pytest.raises(DataError, match="existing JSONL file"):
        check_file(tmp_path / "none", None)


def test_lines_end_at_line_feeds_only_and_text_stays_as_it_is(tmp_path: Path) -> None:
    texts = ["a\u2028b", "a\x85b", "a\rb", "\u0926\u093f\u0928", "\U0001f600"]
    write_rows(tmp_path / "rows.jsonl", [row(text) for text in texts])
    assert [one["messages"][0]["content"] for one in read_rows(tmp_path / "rows.jsonl")] == texts
    crlf = b"\xef\xbb\xbf" + (tmp_path / "rows.jsonl").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "rows.jsonl").write_bytes(crlf)
    assert [one["messages"][0]["content"] for one in read_rows(tmp_path / "rows.jsonl")] == texts


def test_a_message_about_a_bad_line_is_of_bounded_size(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": "x" * 600_000}}
    bad = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "a"}]}
    surrogate = '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "a"}]}'
    (tmp_path / "f").write_text("\n".join([json.dumps(bad), json.dumps({"k" * 9999: 1}), surrogate]))
    _, rejected = check_file(tmp_path / "f", None)
    assert [one.line for one in rejected] == [1, 2, 3]
    assert all(len(str(one)) < 400 for one in rejected)
    assert "half of a surrogate pair" in rejected[2].reason


def test_calls_are_answers() -> None:
    def calling(**arguments: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [row()["messages"][0], {"role": "assistant", "content": "", "tool_calls": [call]}]}

    assert problem(calling(a=1), None) is None
    assert answer_key(calling(a=1, b=2)) == answer_key(calling(b=2, a=1)) != answer_key(calling(a=1, b=3))


def test_keys_by_which_rows_are_the_same() -> None:
    assert answer_key(row(answer='{"b":1, "a":2}')) == answer_key(row(answer='{"a":2,"b":1}'))
    assert answer_key(row(answer=" yes ")) == "yes"
    assert answer_json(row(answer="[1]")) is None
    assert answer_json(row(answer="[" * 100_000)) is None
    system = {"messages": [{"role": "system", "content": "s"}, *row()["messages"]]}
    assert prompt(system) == "On please!"
