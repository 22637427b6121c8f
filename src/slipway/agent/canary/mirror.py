"""The mirror: clients' requests go to the champion, whose answer they get, and a copy of each to the candidate.

There only while a canary runs or prompts are captured. Each connection carries one request, as HAProxy sends them. The
champion's bytes pass as they arrive, both ways, each piece waited for by the slower side. The candidate is asked after
the champion has answered, in a task of its own: it may be slow, refuse or die, no client waits for it. At most
`at_once` copies are open; a request that meets them all, or a body above MOST_BODY, is not mirrored and counted. Pairs
of answers stay in memory until somebody fetches them, the last WAITING of them; on the disk is nothing but what capture
was turned on for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from slipway.agent.canary.http_messages import (
    HEALTH,
    MOST_HEAD,
    PIECE,
    Answered,
    BadMessageError,
    Head,
    answered,
    body_of,
    body_pieces,
    read_head,
)
from slipway.agent.engine_key import OPEN, EngineAccess

MOST_BODY = 4 << 20  # bytes of a request or an answer that is looked at
WAITING = 256
AT_ONCE = 8
CONNECT_S = 5.0
Address = tuple[str, int]
Keep = Callable[[dict[str, Any]], None]


@dataclass
class Counts:
    """What happened so far: requests that passed, copies sent, and why others were not; `candidate_failed` with the
    last reason."""

    requests: int = 0
    champion_failed: int = 0
    mirrored: int = 0
    skipped_busy: int = 0
    skipped_large: int = 0
    skipped_unreadable: int = 0
    candidate_failed: int = 0
    candidate_reason: str = ""
    dropped_pairs: int = 0
    capture_failed: str = ""


@dataclass
class _Copy:
    """Bytes that passed, up to MOST_BODY."""

    pieces: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= MOST_BODY:
            self.pieces.append(piece)

    @property
    def whole(self) -> bytes | None:
        """All of them; None when they were too many."""
        return b"".join(self.pieces) if self.size <= MOST_BODY else None


class Mirror:
    """One mirror. `champion`, `candidate`: (host, port) of engines, the second None to capture only; `keep` is called
    with every request's document; `timeout_s`: longest answer of the candidate; `champion_access`, `candidate_access`:
    how they are asked, with their own keys in place of the client's."""

    def __init__(
        self,
        champion: Address,
        candidate: Address | None,
        *,
        keep: Keep | None = None,
        at_once: int = AT_ONCE,
        timeout_s: float = 600.0,
        champion_access: EngineAccess = OPEN,
        candidate_access: EngineAccess = OPEN,
    ) -> None:
        self.counts, self.pairs = Counts(), deque[dict[str, Any]]()
        self._champion, self._candidate, self._keep = champion, candidate, keep
        self._at_once, self._timeout_s = at_once, timeout_s
        self._champion_key, self._candidate_key = champion_access.key, candidate_access.key
        self._champion_tls, self._candidate_tls = champion_access.context(), candidate_access.context()
        self._copies: set[asyncio.Task[None]] = set()
        self._number = self._answering = 0

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
        """Serve at this address, port 0 for a free one."""
        return await asyncio.start_server(self._serve, host, port, limit=MOST_HEAD)

    def status(self) -> dict[str, Any]:
        """Counts; requests that are being answered, copies that are open, pairs that wait."""
        now = {"answering": self._answering, "open": len(self._copies), "waiting": len(self.pairs)}
        return {**asdict(self.counts), **now}

    def fetch(self, most: int) -> list[dict[str, Any]]:
        """Up to `most` pairs, the oldest first; they are forgotten here."""
        return [self.pairs.popleft() for _ in range(min(most, len(self.pairs)))]

    async def settle(self, seconds: float) -> None:
        """Wait until every client has its answer, at most so long; then end the copies."""
        deadline = time.monotonic() + seconds
        while self._answering and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for task in list(self._copies):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering += 1
        try:
            head = await read_head(reader)
            if head is not None and head.start.startswith(f"GET {HEALTH} "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif head is not None:
                self.counts.requests += 1
                await self._pass(head, reader, writer)
        except (BadMessageError, OSError):
            pass  # a client that is gone, or speaks something else: there is nobody to answer
        finally:
            self._answering -= 1
            await _close(writer)

    async def _pass(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin = time.monotonic()
        try:
            connected = await asyncio.wait_for(self._connect_champion(), CONNECT_S)
        except (OSError, asyncio.TimeoutError):  # noqa: UP041 (two classes in Python 3.10)
            self.counts.champion_failed += 1
            await _refuse(writer)
            return
        up_reader, up_writer = connected
        try:
            asked, answer, first_s = await self._exchange(head, reader, writer, up_reader, up_writer)
        finally:
            await _close(up_writer)
        if head.is_mirrored:
            response = answered(answer.whole or b"")
            seconds = {"seconds": round(time.monotonic() - begin, 4), "first_s": round(first_s - begin, 4)}
            self._after(head, asked, {**asdict(response), **seconds})

    async def _connect_champion(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._champion, limit=MOST_HEAD, ssl=self._champion_tls)

    async def _exchange(
        self,
        head: Head,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> tuple[_Copy, _Copy, float]:
        """Pass one request and its answer; copies of both, and when the answer began. The client's end ends it."""
        asked, answer, first_s = _Copy(), _Copy(), 0.0

        async def upload() -> None:
            up_writer.write(head.with_key(self._champion_key))
            try:
                async for piece in body_pieces(reader, head):
                    asked.add(piece)
                    up_writer.write(piece)
                    await up_writer.drain()
                gone = not await reader.read(1)  # nothing follows a request
            except (BadMessageError, OSError):
                gone = True
            if gone:
                up_writer.transport.abort()

        uploading = asyncio.ensure_future(upload())
        try:
            while piece := await up_reader.read(PIECE):
                first_s = first_s or time.monotonic()
                answer.add(piece)
                writer.write(piece)
                await writer.drain()
        except OSError:
            _reset(writer)  # a clean end would pass off half an answer as a whole one
            raise
        finally:
            uploading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await uploading
        return asked, answer, first_s or time.monotonic()

    def _after(self, head: Head, asked: _Copy, champion: dict[str, Any]) -> None:
        """What happens to a copy of an answered request: captured, and asked of the candidate."""
        whole = asked.whole
        document = _request(head, whole) if whole is not None else None
        if whole is None or document is None:
            self.counts.skipped_large += whole is None
            self.counts.skipped_unreadable += whole is not None
            return
        if self._keep is not None:
            try:
                self._keep(document)
            except OSError as err:
                self.counts.capture_failed = str(err)[:200]
        if self._candidate is None:
            return
        if len(self._copies) >= self._at_once:
            self.counts.skipped_busy += 1
            return
        self.counts.mirrored += 1
        task = asyncio.ensure_future(self._pair(head, whole, document, champion))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _pair(self, head: Head, body: bytes, document: dict[str, Any], champion: dict[str, Any]) -> None:
        begin = time.monotonic()
        try:
            answer, reason = await asyncio.wait_for(self._ask(head, body), self._timeout_s), ""
        except (OSError, asyncio.TimeoutError) as err:  # noqa: UP041
            answer, reason = Answered(0), f"{type(err).__name__}: {err}".rstrip(": ")
        if answer.status != 200 or (champion["finish"] and not answer.finish):
            reason = reason or (f"HTTP {answer.status}" if answer.status != 200 else "the answer was cut off")
            self.counts.candidate_failed += 1
            self.counts.candidate_reason = reason[:200]
        candidate = {**asdict(answer), "seconds": round(time.monotonic() - begin, 4), "reason": reason[:200]}
        if len(self.pairs) >= WAITING:
            self.pairs.popleft()
            self.counts.dropped_pairs += 1
        self._number += 1
        self.pairs.append({"n": self._number, "request": document, "champion": champion, "candidate": candidate})

    async def _ask(self, head: Head, body: bytes) -> Answered:
        assert self._candidate is not None
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(*self._candidate, ssl=self._candidate_tls), CONNECT_S
        )
        try:
            writer.write(head.with_key(self._candidate_key, close=True) + body)
            await writer.drain()
            copy = _Copy()
            while piece := await reader.read(PIECE):
                copy.add(piece)
            return answered(copy.whole or b"")
        finally:
            await _close(writer)


def _request(head: Head, framed: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body_of(head, framed))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


async def _refuse(writer: asyncio.StreamWriter) -> None:
    """503, as the proxy itself answers when no engine is there."""
    body = b'{"error":{"message":"no engine is ready","type":"server_error","code":"engine_not_ready"}}'
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + b"Retry-After: 5\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection as the champion ended its own: by RST, which needs a linger time of 0."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
