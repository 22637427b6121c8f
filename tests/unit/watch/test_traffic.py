"""What is compared of captured prompts, and what is left out and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from slipway.watch.traffic import text_of, traffic_of

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def record(text: str, at: str = "2026-11-30T08:00:00Z", **more: Any) -> dict[str, Any]:
    return {"at": at, "redacted": 0, "request": {"messages": [{"role": "user", "content": text}], **more}}


def sample(*records: Any, most: int = 10) -> Any:
    return traffic_of(records, now=NOW, days=7, most=most, seed="s")


def test_distinct_texts_of_the_last_days() -> None:
    traffic = sample(record("a"), record("b", max_tokens=9), record("a"), record("c", at="2026-11-01T08:00:00Z"))
    assert sorted((p.text, p.max_tokens) for p in traffic.prompts) == [("a", None), ("b", 9)]
    assert (traffic.captured, dict(traffic.left_out)) == (
        4, {"of a conversation that is in the sample": 1, "older than watch.days": 1}
    )  # fmt: skip


def test_a_conversation_counts_once_by_its_newest_request() -> None:
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    turns.append({"role": "user", "content": "and now?"})
    longer = {"at": "2026-11-30T08:01:00Z", "request": {"messages": turns}}
    traffic = sample(record("hello"), longer)
    assert [prompt.text for prompt in traffic.prompts] == ["and now?"]


def test_records_of_another_shape_are_counted_by_reason() -> None:
    shapes: list[Any] = [
        {"at": "2026-11-30T08:00:00Z"}, {"request": "text"}, record("x", at="yesterday"),
        {"at": "2026-11-30T08:00:00Z", "request": {"prompt": "no chat"}},
        {"at": "2026-11-30T08:00:00Z", "request": {"messages": ["text"]}},
        {"at": "2026-11-30T08:00:00Z", "request": {"messages": [{"role": "system", "content": "s"}]}},
        {"at": "2026-11-30T08:00:00Z", "request": {"messages": [{"role": "user", "content": 7}]}},
        {"at": 3, "request": {"messages": [{"role": "user", "content": "x"}]}},
    ]  # fmt: skip
    traffic = sample(*shapes)
    assert not traffic.prompts
    assert dict(traffic.left_out) == {
        "no request in the record": 2, "no time in the record": 2, "no chat": 2, "no text of a user": 2
    }  # fmt: skip


def test_most_are_a_sample_that_is_the_same_every_time() -> None:
    rows = [record(f"text {i}") for i in range(50)]
    first, again = sample(*rows, most=20), sample(*reversed(rows), most=20)
    assert len(first.prompts) == 20
    assert [p.text for p in first.prompts] == [p.text for p in again.prompts]
    assert first.left_out == {"above watch.prompts": 30}


def test_parts_of_a_message_are_its_text() -> None:
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {}}, "x"]
    assert text_of({"content": parts}) == "what is this"
    assert text_of({"content": None}) == ""
