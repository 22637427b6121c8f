"""The mirror between a client and two engines that are small servers of this process."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from slipway.agent.canary.mirror import MOST_BODY, WAITING, Mirror
from slipway.agent.engine_key import EngineAccess

BODY = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
Engine = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OPEN: list[asyncio.Server] = []


def run(go: Callable[[], Awaitable[None]]) -> None:
    """`go` to its end; then nothing listens any more and every connection is closed."""

    async def main() -> None:
        try:
            await go()
        finally:
            for server in OPEN:
                server.close()
            OPEN.clear()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(main())


def post(body: bytes = BODY, path: str = "/v1/chat/completions") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def says(text: str, *, gate: asyncio.Event | None = None, cut: bool = False) -> Engine:
    """An engine that streams a text word by word and ends; `gate` is waited for before it; `cut`: resets half-way."""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await speak(reader, writer)
        finally:
            writer.close()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int((re.findall(rb"Content-Length: (\d+)", head) or [0])[0]))
        if gate:
            await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for word in text.split(" "):
            writer.write(b"data: " + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\n\n")
            await writer.drain()
        if cut:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        writer.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
        await writer.drain()

    return engine


async def serving(engine: Engine) -> tuple[str, int]:
    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    OPEN.append(server)
    host, port = server.sockets[0].getsockname()[:2]
    return host, port


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def mirror_at(champion: Engine, candidate: Engine | None, **more: Any) -> tuple[Mirror, int]:
    mirror = Mirror(await serving(champion), await serving(candidate) if candidate else None, **more)
    return mirror, await listening(mirror)


async def listening(mirror: Mirror) -> int:
    server = await mirror.listen()
    OPEN.append(server)
    port: int = server.sockets[0].getsockname()[1]
    return port


def test_the_client_gets_the_champions_bytes_and_the_pair_is_kept() -> None:
    async def go() -> None:
        mirror, port = await mirror_at(says("a b"), says("a c"))
        direct = await ask((await serving(says("a b")))[1], post())
        assert await ask(port, post()) == direct
        await until(lambda: len(mirror.pairs) == 1)
        pair = mirror.fetch(10)[0]
        assert pair["request"] == json.loads(BODY)
        assert (pair["champion"]["text"], pair["candidate"]["text"]) == ("ab", "ac")
        assert pair["champion"]["finish"] == pair["candidate"]["finish"] == "stop"
        assert mirror.fetch(10) == [] and mirror.status()["mirrored"] == 1

    run(go)


def test_a_candidate_that_hangs_delays_nobody_and_what_finds_it_busy_is_counted() -> None:
    async def go() -> None:
        gate = asyncio.Event()
        mirror, port = await mirror_at(says("a b"), says("x", gate=gate), at_once=2)
        for _ in range(5):
            assert b"[DONE]" in await ask(port, post())
        status = mirror.status()
        assert (status["mirrored"], status["skipped_busy"], status["open"]) == (2, 3, 2)
        gate.set()
        await until(lambda: len(mirror.pairs) == 2)

    run(go)


def test_each_engine_is_sent_its_own_key_and_not_the_clients() -> None:
    async def go() -> None:
        heads: dict[str, bytes] = {}

        def keeps(name: str) -> Engine:
            async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heads[name] = await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                writer.close()

            return engine

        keys = {"champion_access": EngineAccess("c0ffee"), "candidate_access": EngineAccess("beef")}
        mirror, port = await mirror_at(keeps("champion"), keeps("candidate"), **keys)
        await ask(port, post().replace(b"Host: h", b"Host: h\r\nAuthorization: Bearer client"))
        await until(lambda: len(mirror.pairs) == 1)
        sent = {name: re.findall(rb"Authorization: (.*)\r\n", head) for name, head in heads.items()}
        assert sent == {"champion": [b"Bearer c0ffee"], "candidate": [b"Bearer beef"]}

    run(go)


@pytest.mark.parametrize("kind", ["refuses", "cut", "timeout"])
def test_a_candidate_that_is_gone_is_noted_and_no_client_sees_it(kind: str) -> None:
    async def go() -> None:
        engine = {"refuses": None, "cut": says("x y", cut=True), "timeout": says("x", gate=asyncio.Event())}[kind]
        candidate = await serving(engine) if engine else ("127.0.0.1", 9)
        mirror = Mirror(await serving(says("a b")), candidate, timeout_s=0.2)
        port = await listening(mirror)
        assert b"[DONE]" in await ask(port, post())
        await until(lambda: mirror.counts.candidate_failed == 1)
        assert mirror.counts.candidate_reason
        assert mirror.pairs[0]["candidate"]["reason"] == mirror.counts.candidate_reason

    run(go)


def test_half_a_champions_answer_does_not_end_like_a_whole_one() -> None:
    async def go() -> None:
        _, port = await mirror_at(says("a b", cut=True), None)
        with pytest.raises(ConnectionResetError):
            await ask(port, post())

    run(go)


def test_no_champion_is_a_503_with_retry_after() -> None:
    async def go() -> None:
        mirror = Mirror(("127.0.0.1", 9), None)
        port = await listening(mirror)
        answer = await ask(port, post())
        assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After" in answer and b"engine_not_ready" in answer
        assert mirror.counts.champion_failed == 1

    run(go)


def test_a_client_that_goes_away_ends_the_champions_answer() -> None:
    async def go() -> None:
        ended = asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            try:
                while not writer.transport.is_closing():
                    writer.write(b"x" * 1000)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except OSError:
                pass
            ended.set()

        _, port = await mirror_at(endless, None)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post())
        await reader.readexactly(1000)
        writer.close()
        await asyncio.wait_for(ended.wait(), 120)

    run(go)


def test_a_slow_client_slows_the_champion_and_fills_no_memory() -> None:
    async def go() -> None:
        sent = 0

        async def fast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(2000):
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
            writer.close()

        _, port = await mirror_at(fast, None)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(post())
        await reader.readexactly(1000)
        stalled = -1
        while stalled != sent:  # until the champion is waited for
            stalled = sent
            await asyncio.sleep(0.3)
        assert sent < 32 << 20  # of 131 MB: what sockets and buffers hold
        writer.transport.abort()

    run(go)


def test_other_requests_pass_without_a_copy_and_odd_bodies_are_counted() -> None:
    async def go() -> None:
        kept: list[dict[str, Any]] = []
        mirror, port = await mirror_at(says("a"), says("a"), keep=kept.append)
        await ask(port, b"GET /health HTTP/1.1\r\n\r\n")
        await ask(port, post(path="/v1/embeddings"))
        await ask(port, post(b"[1]"))
        await ask(port, post(b'{"messages": "' + b"x" * MOST_BODY + b'"}'))
        assert kept == [] and mirror.counts.mirrored == 0 and mirror.counts.requests == 4
        assert (mirror.counts.skipped_unreadable, mirror.counts.skipped_large) == (1, 1)
        await ask(port, post())
        assert kept == [json.loads(BODY)]

    run(go)


def test_a_full_disk_stops_no_client_and_is_noted() -> None:
    def full(_: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    async def go() -> None:
        mirror, port = await mirror_at(says("a"), None, keep=full)
        assert b"[DONE]" in await ask(port, post())
        await until(lambda: "No space" in mirror.counts.capture_failed)

    run(go)


def test_pairs_that_nobody_fetches_are_dropped_oldest_first() -> None:
    async def go() -> None:
        mirror, port = await mirror_at(says("a"), says("a"))
        mirror.pairs.extend({"n": -at} for at in range(WAITING))
        await ask(port, post())
        await until(lambda: mirror.counts.dropped_pairs == 1)
        assert len(mirror.pairs) == WAITING

    run(go)
