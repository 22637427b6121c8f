"""HTTP/1.1 messages as the mirror needs them: a request's head and body as they pass, an answer's text afterwards.

Nothing is rewritten on its way to the champion, but the key of one that asks for it. Bodies end by `Content-Length` or
by the last chunk (RFC 9112, 6.3); an answer may also end with its connection. Texts are those of OpenAI's chat and
completion APIs, whole or as events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from slipway.agent.reasoning_field import reasoning_of

PIECE = 65536
MOST_HEAD = 65536
HEALTH = "/slipway-mirror"  # which the mirror answers itself
MIRRORED = ("/v1/chat/completions", "/v1/completions")


class BadMessageError(ValueError):
    """Bytes that are no HTTP/1.1 message."""


@dataclass(frozen=True)
class Head:
    """The first lines of a message: `start`, and header fields by their lower-case names. `raw`: its bytes, the empty
    line included."""

    raw: bytes
    start: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def is_mirrored(self) -> bool:
        """Whether this request asks a model for an answer."""
        method, _, rest = self.start.partition(" ")
        return method == "POST" and rest.split(" ")[0].split("?")[0] in MIRRORED

    @property
    def length(self) -> int | None:
        """Bytes of its body; None for a body in chunks. Raises BadMessageError for a length that is no number."""
        if "chunked" in self.fields.get("transfer-encoding", "").lower():
            return None
        value = self.fields.get("content-length", "0")
        if not value.isdecimal() or len(value) > 15:
            raise BadMessageError(f"Content-Length {value[:40]}")
        return int(value)

    def with_key(self, key: str, *, close: bool = False) -> bytes:
        """Its bytes for an engine that asks for this key, in place of what the client sent; unchanged for an empty one.
        `close`: with `Connection: close`."""
        own = {b"authorization:": f"Authorization: Bearer {key}"} if key else {}
        own |= {b"connection:": "Connection: close"} if close else {}
        if not own:
            return self.raw
        lines = [line for line in self.raw.split(b"\r\n") if line and not line.lower().startswith(tuple(own))]
        return b"\r\n".join([*lines, *(line.encode("latin-1") for line in own.values()), b"", b""])


def parse_head(raw: bytes) -> Head:
    """The head in these bytes. Raises BadMessageError."""
    start, *lines = raw.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if line and (not colon or not name.strip()):
            raise BadMessageError(f"header line {line[:60]!r}")
        fields[name.strip().lower()] = value.strip()
    fields.pop("", None)
    if not start.strip():
        raise BadMessageError("no start line")
    return Head(raw, start, fields)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next message's head; None at the end of the connection. Raises BadMessageError when it is longer than
    MOST_HEAD or cut."""
    try:
        return parse_head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as err:
        if not err.partial:
            return None
        raise BadMessageError("the connection ended within the head") from err
    except asyncio.LimitOverrunError as err:
        raise BadMessageError(f"a head of more than {MOST_HEAD} bytes") from err


async def body_pieces(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """The body's bytes as they arrive, the framing of chunks included. Raises BadMessageError when it is cut."""
    try:
        if (left := head.length) is not None:
            while left:
                piece = await reader.read(min(PIECE, left))
                if not piece:
                    raise BadMessageError(f"{left} bytes of the body are missing")
                left -= len(piece)
                yield piece
            return
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0].strip() or b"x", 16)
            yield line
            if size == 0:
                yield await reader.readuntil(b"\r\n")  # no trailers: OpenAI's clients send none
                return
            yield await reader.readexactly(size + 2)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as err:
        if isinstance(err, BadMessageError):
            raise
        raise BadMessageError("a body in chunks that is cut or malformed") from err


def body_of(head: Head, framed: bytes) -> bytes:
    """A body without the framing of its chunks; what is cut off ends there."""
    if "chunked" not in head.fields.get("transfer-encoding", "").lower():
        return framed
    pieces, at = list[bytes](), 0
    while (end := framed.find(b"\r\n", at)) >= 0:
        try:
            size = int(framed[at:end].split(b";")[0] or b"x", 16)
        except ValueError:
            break
        if size == 0:
            break
        pieces.append(framed[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(pieces)


@dataclass
class Answered:
    """What a model answered: HTTP `status`, its `text` (thinking and calls of tools included), `finish` as the API has
    it, empty when the answer was cut off."""

    status: int
    text: str = ""
    finish: str = ""


def answered(raw: bytes) -> Answered:
    """The answer in a whole response, head and body. Status 0 for what is none."""
    head_bytes, _, framed = raw.partition(b"\r\n\r\n")
    try:
        head = parse_head(head_bytes + b"\r\n\r\n")
        status = int(head.start.split(" ")[1])
    except (BadMessageError, IndexError, ValueError):
        return Answered(0)
    body = body_of(head, framed)
    documents = _events(body) if "event-stream" in head.fields.get("content-type", "") else [_document(body)]
    whole = Answered(status)
    for document in documents:
        choices = document.get("choices") if isinstance(document, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                whole.text += _text(choice)
                whole.finish = str(choice.get("finish_reason") or whole.finish)
    return whole


def _events(body: bytes) -> list[Any]:
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [_document(line[5:]) for line in lines if line.startswith(b"data:")]


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(choice: dict[str, Any]) -> str:
    part = choice.get("delta") or choice.get("message") or choice
    if not isinstance(part, dict):
        return ""
    pieces = [reasoning_of(part), part.get("content"), part.get("text")]
    for call in part.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        pieces += [function.get("name"), function.get("arguments")] if isinstance(function, dict) else []
    return "".join(piece for piece in pieces if isinstance(piece, str))
