"""Events with times given: what each trap of counting tokens would make of them."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.evaluation.stream_timings import AnswerFailedError, StreamTimings


def piece(text: str, usage: int | None = None, finish: str | None = None) -> dict[str, Any]:
    event: dict[str, Any] = {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}
    return event | ({"usage": {"completion_tokens": usage}} if usage is not None else {})


def end(tokens: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"completion_tokens": tokens}}


def timings(*events: tuple[float, dict[str, Any]], asked: int = 8) -> StreamTimings:
    stream = StreamTimings(asked, 10.0)
    for at, event in events:
        stream.add(event, at)
    stream.close(events[-1][0])
    return stream


def test_a_chunk_of_many_tokens_is_many_tokens() -> None:
    stream = timings(
        (10.1, piece("", 0)), (10.2, piece("a", 1)), (10.5, piece("b c d", 4)), (10.6, piece("", 4, "length")),
        (10.6, end(4)),
    )  # fmt: skip
    assert stream.by_server
    assert (stream.counted, stream.usage) == (4, 4)
    assert stream.ttft_s == pytest.approx(0.2)  # the role's chunk is no token
    assert stream.gaps_s() == pytest.approx([0.1] * 3)
    assert stream.tpot_s == pytest.approx(0.1)


def test_the_tokens_of_the_first_chunk_have_no_gap() -> None:
    stream = timings((10.2, piece("a b c", 3)), (10.4, piece("d", 4, "length")), (10.4, end(4)))
    assert stream.counted == 4
    assert stream.gaps_s() == pytest.approx([0.2])


def test_usage_in_the_last_chunk_alone_is_no_time_of_a_token() -> None:
    """Taken as a delta, all tokens would have come at the end."""
    stream = timings((10.2, piece("a")), (10.3, piece("b")), (10.4, piece("c", 3, "length")))
    assert not stream.by_server
    assert stream.arrivals() == [(10.2, 1), (10.3, 1), (10.4, 1)]
    assert stream.counted == stream.usage == 3


def test_llama_server_counts_under_timings() -> None:
    def counted(text: str, n: int) -> dict[str, Any]:
        return piece(text) | {"timings": {"predicted_n": n}}

    finish = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    stream = timings((10.2, counted("a", 1)), (10.4, counted("\u00e9", 3)), (10.4, finish), (10.4, end(3)))
    assert stream.by_server
    assert stream.gaps_s() == pytest.approx([0.1, 0.1])  # a letter of two tokens


def test_a_token_without_text_counts() -> None:
    stream = timings((10.2, piece("a", 1)), (10.3, piece("", 2)), (10.4, piece("b", 3)), (10.4, piece("", 3, "stop")))
    assert stream.counted == 3
    assert stream.stopped


def test_an_answer_without_any_text_has_the_tokens_that_the_server_counted() -> None:
    """Seen on vLLM: a model that writes nothing but tokens without text, its end token ignored."""
    stream = timings((10.1, piece("", 0)), (10.2, piece("", 1)), (10.4, piece("", 3)), (10.5, piece("", 4, "length")))
    assert (stream.counted, stream.ttft_s) == (4, pytest.approx(0.2))
    assert stream.gaps_s() == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thinking_is_text_that_a_user_waits_for(key: str) -> None:
    first = {"choices": [{"delta": {key: "hm"}}]}
    assert timings((10.3, first), (10.5, piece("a", None, "stop")), (10.5, end(2))).ttft_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([(1.0, piece("a", 1))], "without a finish reason"),
        ([(1.0, piece("a", None, "stop"))], "no usage"),
        ([(1.0, piece("", 0, "stop"))], "no tokens"),
        ([(1.0, piece("")), (1.5, piece("", 7, "length"))], "7 tokens without text, of which nobody said when"),
        ([(1.0, {"choices": "x"})], "no chat completion chunk"),
        ([(1.0, {"choices": [], "usage": 7})], "no chat completion chunk"),
    ],
)
def test_what_cannot_be_counted_is_a_failure(events: list[tuple[float, dict[str, Any]]], reason: str) -> None:
    with pytest.raises(AnswerFailedError, match=reason):
        timings(*events)


def test_tokens_without_text_at_the_end_come_with_the_end() -> None:
    """llama-server keeps the bytes of a character back that the answer's length cuts, and says their number in the
    usage alone."""

    def counted(text: str, n: int) -> dict[str, Any]:
        return piece(text) | {"timings": {"predicted_n": n}}

    finish = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    stream = timings((10.2, counted("a", 1)), (10.4, counted("b", 2)), (10.7, finish), (10.7, end(5)))
    assert (stream.counted, stream.usage) == (5, 5)
    assert stream.arrivals()[-1] == (10.7, 3)
    far = timings((10.2, counted("a", 1)), (10.4, counted("b", 2)), (10.7, finish), (10.7, end(9)))
    assert (far.counted, far.usage) == (2, 9)  # more than one character's: the counts contradict each other
    asked = timings((10.2, counted("a", 1)), (10.4, counted("b", 2)), (10.7, finish), (10.7, end(9)), asked=9)
    assert (asked.counted, asked.usage) == (9, 9)
