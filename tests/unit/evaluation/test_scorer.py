"""What a metric sees of an item."""

from __future__ import annotations

from slipway.evaluation.scorer import Example


def test_the_expected_text_is_the_last_messages_and_empty_for_a_row_of_tool_calls() -> None:
    asked = {"role": "user", "content": "hello"}
    text = {"messages": [asked, {"role": "assistant", "content": "hi"}]}
    calls = {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": []}]}
    assert (Example(text, "").expected, Example(calls, "").expected) == ("hi", "")
