"""A small streaming client of OpenAI-compatible chat endpoints, with the timings that a user feels.

    TTFT = first piece of text received - request sent
    ITL  = gaps between consecutive pieces of text (llama-server streams one token a piece)

Every request has a connection of its own: llama-server closes kept-alive connections after a while, and a request that
meets the closing is lost ("server disconnected without sending a response"). On loopback a connection costs 0.2 ms.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from types import TracebackType
from typing import Any, Self

import httpx

from slipway.agent.reasoning_field import reasoning_of
from slipway.errors import EngineError, EngineLostError
from slipway.system.retry import until_answered

Message = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answer: the whole text as received, token counts by the server, times in seconds, transport retries it took.

    `calls`: tools called, `{"name", "arguments"}` each, the arguments as the text that the model wrote. `reasoning`:
    what the server parted from the text as thinking.
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    gaps_s: tuple[float, ...]
    seconds: float
    retries: int
    calls: tuple[dict[str, str], ...] = ()
    reasoning: str = ""


class StreamCutError(httpx.TransportError):
    """The stream ended before the server said why."""


class ChatClient:
    """Asks one model at `url` (".../v1"), with `key` and over TLS as `context` says, where they are given. Thread-safe:
    concurrency is the caller's threads."""

    def __init__(
        self,
        url: str,
        model: str,
        timeout_s: float,
        retries: int = 3,
        key: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url, self._model, self._retries = f"{url.rstrip('/')}/chat/completions", model, retries
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        limits = httpx.Limits(max_keepalive_connections=0)
        verify = context or True
        self._http = httpx.Client(timeout=timeout_s, trust_env=False, limits=limits, headers=headers, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        fixed_length: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        schema: Mapping[str, Any] | None = None,
        tool_choice: str | None = None,
        heard: Callable[[str], object] | None = None,
    ) -> Answer:
        """Greedy answer to `messages`, which may be given `tools` to call. `fixed_length` goes on past the end token
        (llama.cpp, vLLM, TensorRT-LLM: `ignore_eos`). `schema`: JSON Schema that the answer has to follow. `heard` gets
        the pieces of its text as they come, of every attempt.

        A transport failure is tried again up to `retries` times; then, or when the server refuses, EngineError.
        """
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [on_the_wire(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if fixed_length:
            body["ignore_eos"] = True
        if tools:
            body["tools"] = list(tools)
        if tool_choice:
            body["tool_choice"] = tool_choice
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        retries = count()
        try:
            return until_answered(
                lambda: self._once(body, next(retries), heard),
                httpx.TransportError,
                tries=self._retries + 1,
                pause_s=0.1,
            )
        except httpx.TransportError as err:
            raise EngineLostError(
                f"endpoint {self._url}",
                f"{type(err).__name__}: {err}",
                f"an answer within {self._retries + 1} attempts",
                "read the server's log; run again: answered items are kept",
            ) from err

    def _once(self, body: dict[str, Any], retries: int, heard: Callable[[str], object] | None) -> Answer:
        pieces, finish, usage, times = _Pieces(), "", {"prompt_tokens": 0, "completion_tokens": 0}, []
        start = time.perf_counter()
        payload = json.dumps(body).encode()  # ASCII: httpx's own JSON fails on half a surrogate pair
        with self._http.stream("POST", self._url, content=payload) as response:
            if response.status_code != httpx.codes.OK:
                raise self._refused(response.status_code, response.read().decode(errors="replace"))
            for event in self._events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    finish = choice.get("finish_reason") or finish
                    delta = choice.get("delta") or {}
                    if pieces.add(delta):
                        times.append(time.perf_counter())
                    if heard and delta.get("content"):
                        heard(delta["content"])
        if not finish:
            raise StreamCutError(f"stream ended after {len(times)} pieces without a finish reason")
        end = time.perf_counter()
        first = times[0] if times else end  # an empty answer: its end is all a user sees
        gaps = tuple(b - a for a, b in pairwise(times))
        return Answer(
            "".join(pieces.text),
            finish,
            usage["prompt_tokens"],
            usage["completion_tokens"],
            first - start,
            gaps,
            end - start,
            retries,
            tuple(pieces.calls[index] for index in sorted(pieces.calls)),
            "".join(pieces.reasoning),
        )

    def _events(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        """The JSON payloads of a server-sent event stream, up to `[DONE]`."""
        for line in _lines(response.iter_bytes()):
            name, _, value = line.partition(":")
            if name not in ("data", "error") or not (value := value.strip()):
                continue
            if value == "[DONE]":
                return
            event: dict[str, Any] = json.loads(value)
            if name == "error" or "error" in event:
                raise self._refused(200, value)
            yield event

    def _refused(self, status: int, body: str) -> EngineError:
        return EngineError(
            f"endpoint {self._url}", f"HTTP {status}: {body[:300]}", "an answer", "read the server's log"
        )


@dataclass
class _Pieces:
    """What the deltas of one stream add up to."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)

    def add(self, delta: Mapping[str, Any]) -> bool:
        """Append a delta; whether it held anything of the answer."""
        content, reasoning, calls = delta.get("content"), reasoning_of(delta), delta.get("tool_calls")
        self.text += [content] if content else []
        self.reasoning += [reasoning] if reasoning else []
        for part in calls or ():
            call = self.calls.setdefault(part.get("index", 0), {"name": "", "arguments": ""})
            for key, piece in (part.get("function") or {}).items():
                if key in call and isinstance(piece, str):
                    call[key] += piece
        return bool(content or reasoning or calls)


def on_the_wire(message: Message) -> Message:
    """A message as the API has it: arguments of tool calls are JSON text there."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of an event stream, which end at CR, LF or both and nowhere else: httpx's own reader ends them at U+2028
    and U+0085 too, which a model may write into the JSON of an event."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")
