"""A small streaming client of OpenAI-compatible chat endpoints, with the timings that a user feels.

    TTFT = first piece of text received - request sent
    ITL  = gaps between consecutive pieces of text (llama-server streams one token a piece)

Every request has a connection of its own: llama-server closes kept-alive connections after a while, and a request that
meets the closing is lost ("server disconnected without sending a response"). On loopback a connection costs 0.2 ms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from types import TracebackType
from typing import Any, Self

import httpx

from slipway.errors import EngineError
from slipway.system.retry import until_answered

Message = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """One answer: text as received, token counts by the server, times in seconds, transport retries it took."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    gaps_s: tuple[float, ...]
    seconds: float
    retries: int


class StreamCutError(httpx.TransportError):
    """The stream ended before the server said why."""


class ChatClient:
    """Asks one model at `url` (".../v1"). Thread-safe: concurrency is the caller's threads."""

    def __init__(self, url: str, model: str, timeout_s: float, retries: int = 3) -> None:
        self._url, self._model, self._retries = f"{url.rstrip('/')}/chat/completions", model, retries
        self._http = httpx.Client(timeout=timeout_s, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(
        self, messages: Sequence[Message], max_tokens: int, *, fixed_length: bool = False, must_start: str = ""
    ) -> Answer:
        """Greedy answer to `messages`. `fixed_length` goes on past the end token (llama.cpp, vLLM, TensorRT-LLM:
        `ignore_eos`). An answer that does not start with `must_start` is hung up on (finish `abandoned`): the server
        stops writing it.

        A transport failure is tried again up to `retries` times; then, or when the server refuses, EngineError.
        """
        body: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if fixed_length:
            body["ignore_eos"] = True
        retries = count()
        try:
            return until_answered(
                lambda: self._once(body, next(retries), must_start),
                httpx.TransportError,
                tries=self._retries + 1,
                pause_s=0.1,
            )
        except httpx.TransportError as err:
            raise EngineError(
                f"endpoint {self._url}",
                f"{type(err).__name__}: {err}",
                f"an answer within {self._retries + 1} attempts",
                "read the server's log; run again: answered items are kept",
            ) from err

    def _once(self, body: dict[str, Any], retries: int, must_start: str) -> Answer:
        text, finish, usage, times = [], "", {"prompt_tokens": 0, "completion_tokens": 0}, []
        start = time.perf_counter()
        with self._http.stream("POST", self._url, json=body) as response:
            if response.status_code != httpx.codes.OK:
                raise self._refused(response.status_code, response.read().decode(errors="replace"))
            for event in self._events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    finish = choice.get("finish_reason") or finish
                    if piece := choice["delta"].get("content"):
                        text.append(piece)
                        times.append(time.perf_counter())
                if _strays("".join(text).lstrip(), must_start):
                    finish, usage = "abandoned", {**usage, "completion_tokens": len(times)}
                    break
        if not finish:
            raise StreamCutError(f"stream ended after {len(text)} pieces without a finish reason")
        end = time.perf_counter()
        first = times[0] if times else end  # an empty answer: its end is all a user sees
        gaps = tuple(b - a for a, b in pairwise(times))
        return Answer(
            "".join(text),
            finish,
            usage["prompt_tokens"],
            usage["completion_tokens"],
            first - start,
            gaps,
            end - start,
            retries,
        )

    def _events(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        """The JSON payloads of a server-sent event stream, up to `[DONE]`."""
        for line in response.iter_lines():
            field, _, value = line.partition(":")
            if field not in ("data", "error") or not (value := value.strip()):
                continue
            if value == "[DONE]":
                return
            event: dict[str, Any] = json.loads(value)
            if field == "error" or "error" in event:
                raise self._refused(200, value)
            yield event

    def _refused(self, status: int, body: str) -> EngineError:
        return EngineError(
            f"endpoint {self._url}", f"HTTP {status}: {body[:300]}", "an answer", "read the server's log"
        )


def _strays(beginning: str, must_start: str) -> bool:
    """Whether an answer that begins so can no longer start as it must."""
    return not beginning.startswith(must_start[: len(beginning)])
