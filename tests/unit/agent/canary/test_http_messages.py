from __future__ import annotations

import asyncio
import json

import pytest

from slipway.agent.canary.http_messages import (
    Answered,
    BadMessageError,
    answered,
    body_of,
    body_pieces,
    parse_head,
    read_head,
)


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def read(data: bytes) -> tuple[bytes, bytes] | None:
    """Head and framed body of one message, and that nothing behind it is taken."""

    async def go() -> tuple[bytes, bytes] | None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        head = await read_head(reader)
        if head is None:
            return None
        return head.raw, b"".join([piece async for piece in body_pieces(reader, head)])

    return asyncio.run(go())


def test_a_body_ends_by_its_length_or_its_last_chunk() -> None:
    sized = b"POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
    assert read(sized + b"hello, more") == (sized, b"hello")
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(chunked + chunks(b"hel", b"lo") + b"more") == (chunked, chunks(b"hel", b"lo"))
    assert body_of(parse_head(chunked), chunks(b"hel", b"lo")) == b"hello"
    assert read(b"") is None


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nContent-Len",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nx: " + b"y" * 100_000,
    ],
)
def test_what_is_cut_or_malformed_is_one_error(data: bytes) -> None:
    with pytest.raises(BadMessageError):
        read(data)


def test_requests_for_answers_are_told_from_others_and_close_is_set() -> None:
    head = parse_head(b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nConnection: keep-alive\r\nHost: h\r\n\r\n")
    assert head.is_mirrored
    closing = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert head.with_key("", close=True) == closing
    assert not parse_head(b"GET /v1/models HTTP/1.1\r\n\r\n").is_mirrored
    assert not parse_head(b"POST /v1/embeddings HTTP/1.1\r\n\r\n").is_mirrored


def test_the_key_of_an_engine_stands_in_place_of_the_clients() -> None:
    raw = b"POST / HTTP/1.1\r\nauthorization: Bearer client\r\nHost: h\r\nAUTHORIZATION: x\r\n\r\n"
    head = parse_head(raw)
    assert head.with_key("") == raw
    assert head.with_key("ab") == b"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ab\r\n\r\n"
    assert head.with_key("ab", close=True).endswith(b"Authorization: Bearer ab\r\nConnection: close\r\n\r\n")


def test_an_answer_whole_and_as_events_is_the_same_text() -> None:
    message = {
        "content": "hi",
        "reasoning_content": "hm ",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    }
    document = {"choices": [{"message": message, "finish_reason": "stop"}]}
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    assert answered(head + json.dumps(document).encode()) == Answered(200, "hm hif{}", "stop")
    events = [{"choices": [{"delta": {"content": c}}]} for c in ("h", "\u2028i")]
    events.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
    body = b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events)
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answered(stream + chunks(body[:20], body[20:], b"data: [DONE]\n\n")) == Answered(200, "h\u2028i", "length")


def test_an_answer_that_is_cut_off_has_no_finish_and_nonsense_has_no_status() -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    stream += b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    assert answered(stream) == Answered(200, "a", "")
    for raw in (
        b"",
        b"garbage",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n[1]",
        b'HTTP/1.1 200 OK\r\n\r\n{"choices": [1]}',
    ):
        assert answered(raw).text == ""
    assert answered(b"").status == 0
