"""A real asyncio HTTP server of scripted delays: the oracle of what a load client must measure, and its traps.

Each request's `max_tokens` are answered after `first_s`, the next chunk every `gap_s`. What the last message says
plants a fault in that answer:

    "error event"  `event: error` in the stream, status 200     "no done"    the stream ends without [DONE]
    "no usage"     the whole answer, and no usage               "refuse"     HTTP 503 with a reason
    "half"         the connection closes in the middle           "garbage"    an event that is not JSON
    "hang"         nothing after the first token
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Script:
    """How the server answers. `per_chunk`: tokens of one chunk; `usage`: in every chunk, or `end`; `inflate`: times
    the usage that is true; `strict`: fields of the body that are refused; `prefill_s`: one prompt at a time.
    `eos_after`: the model ends there, and its end token is in the usage without a text."""

    first_s: float = 0.0
    gap_s: float = 0.0
    per_chunk: int = 1
    usage: str = "every"
    inflate: float = 1.0
    strict: tuple[str, ...] = ()
    prefill_s: float = 0.0
    eos_after: int | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    gone: int = 0  # clients that left before their answer's end


@contextmanager
def timed(script: Script) -> Iterator[str]:
    """Serve `script` in a thread of its own for the time of the block; the API's base URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(_start(script))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(script: Script) -> asyncio.Server:
    lock = asyncio.Lock()
    return await asyncio.start_server(lambda reader, writer: _connection(script, lock, reader, writer), "127.0.0.1", 0)


async def _stop(server: asyncio.Server) -> None:
    server.close()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _connection(
    script: Script, lock: asyncio.Lock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    script.running += 1
    script.most_running = max(script.most_running, script.running)
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("post"):
            _plain(writer, 200, json.dumps({"data": [{"id": "m"}]}).encode())
        else:
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            await _answer(script, lock, json.loads(await reader.readexactly(length)), writer)
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        script.gone += 1
    finally:
        script.running -= 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _plain(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def _answer(script: Script, lock: asyncio.Lock, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    script.bodies.append(body)
    fault = body["messages"][-1]["content"]
    names = {*body, *body["stream_options"]}
    if refused := [name for name in script.strict if name in names]:
        return _plain(writer, 400, json.dumps({"error": f"extra field {refused[0]}"}).encode())
    if fault == "refuse":
        return _plain(writer, 503, b'{"error": "no slot available"}')
    async with lock:
        await asyncio.sleep(script.prefill_s)
    await asyncio.sleep(script.first_s)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await _stream(script, fault, body["max_tokens"], writer)
    return None


async def _stream(script: Script, fault: str, asked: int, writer: asyncio.StreamWriter) -> None:
    total = min(asked, script.eos_after) if script.eos_after else asked
    _event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}], **_usage(script, "every", 0)})
    sent = 0
    while sent < total:
        if sent:
            await asyncio.sleep(script.gap_s)
        size = min(script.per_chunk, total - sent)
        sent += size
        doc = {"choices": [{"delta": {"content": "word " * size}}], **_usage(script, "every", sent)}
        _event(writer, doc)
        await writer.drain()
        if fault == "half" and sent > 1:
            return
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "garbage":
            writer.write(_chunk(b"data: {half\n\n"))
    if fault == "error event":
        writer.write(_chunk(b'event: error\ndata: {"message": "out of memory"}\n\n'))
    finish = "stop" if script.eos_after else "length"
    end = sent + (script.eos_after is not None)
    _event(writer, {"choices": [{"delta": {}, "finish_reason": finish}], **_usage(script, "every", sent)})
    if fault != "no usage":
        _event(writer, {"choices": [], "usage": {"completion_tokens": round(end * script.inflate)}})
    if fault != "no done":
        writer.write(_chunk(b"data: [DONE]\n\n"))
    writer.write(b"0\r\n\r\n")


def _usage(script: Script, where: str, tokens: int) -> dict[str, Any]:
    return {"usage": {"completion_tokens": tokens}} if script.usage == where else {}


def _event(writer: asyncio.StreamWriter, doc: dict[str, Any]) -> None:
    whole = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", **doc}
    writer.write(_chunk(f"data: {json.dumps(whole)}\n\n".encode()))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
