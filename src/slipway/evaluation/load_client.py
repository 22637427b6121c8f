"""An asyncio client that keeps an OpenAI-compatible endpoint under a steady load and times every answer.

A closed loop: each of `callers` asks again as soon as it has its answer. Three things keep the figures from lying:

- Hand-over without a drain. A warm-up that ends before the measurement begins lets all callers start at once, and that
  first wave queues for its prompts: TTFT p95 273 ms over 24 requests against 167 ms over 240, on a server with 40 ms a
  prompt. Here the window opens while all callers are busy, once each has had an answer; what was sent before is not
  counted. It closes with the last counted answer, and until then uncounted requests keep the load up.
- Lengths spread over a range. Answers of one length can lock callers in step for ever (modelscope/evalscope#1641).
- Nothing is tried again. A failed request is counted, with its reason.

Every request has a connection of its own, as a server may close a kept one just when it is used; TTFT includes it
(0.2 ms on loopback). In the window the client uses `client_cpu` of one core; near 1 it is the client that is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipway.errors import EngineError
from slipway.evaluation.stream_timings import AnswerFailedError, StreamTimings

if TYPE_CHECKING:
    import httpx

LONGEST_REASON = 200  # characters
PAUSE_S = 0.05  # after a failure: a server that refuses everything is not asked a thousand times a second
# Least to ask of a server, and what some refuse: more exact counts, and going on past the end token.
EXTRAS: tuple[dict[str, Any], ...] = (
    {"ignore_eos": True, "timings_per_token": True, "stream_options": {"continuous_usage_stats": True}},
    {"ignore_eos": True, "stream_options": {"continuous_usage_stats": True}},
    {"ignore_eos": True},
    {},
)


@dataclass(frozen=True)
class Request:
    """What one caller asks: messages as the API has them, and the answer's length in tokens."""

    messages: Sequence[dict[str, Any]]
    tokens: int


@dataclass
class Window:
    """What was measured at one number of callers. Times in seconds of a steady clock; `failures` by reason."""

    callers: int
    answers: list[StreamTimings] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    opened: float = 0.0
    closed: float = 0.0
    dropped: int = 0
    streams: list[StreamTimings] = field(default_factory=list)
    client_cpu: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.closed - self.opened

    def tokens(self) -> int:
        """Tokens that arrived in the window, of uncounted requests too: the load was the same all the time."""
        return sum(n for stream in self.streams for at, n in stream.arrivals() if self.opened < at <= self.closed)

    def completions(self) -> int:
        """Answers that ended in the window, whenever they were asked for."""
        return sum(s.end is not None and self.opened < s.end <= self.closed for s in self.streams)


class LoadClient:
    """Asks `model` at `url` (".../v1"), with an API `key` or none. Use as an asynchronous context manager."""

    def __init__(self, url: str, model: str, timeout_s: float, key: str | None = None) -> None:
        self.url, self.model = f"{url.rstrip('/')}/chat/completions", model
        self.extras: dict[str, Any] = EXTRAS[0]
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    async def __aenter__(self) -> LoadClient:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=self._timeout_s, trust_env=False, limits=limits, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def negotiate(self, request: Request) -> None:
        """Find out by one short request each what the server accepts; raises AnswerFailedError when it answers
        nothing at all."""
        for extras in EXTRAS:
            self.extras = extras
            try:
                await self.ask(request)
            except _RefusedError as err:
                if err.status not in (400, 422) or extras is EXTRAS[-1]:
                    raise
            else:
                return

    async def ask(self, request: Request, streams: list[StreamTimings] | None = None) -> StreamTimings:
        """One answer with the times of its tokens; `streams` has it from its beginning. Raises AnswerFailedError."""
        import httpx

        timings = StreamTimings(request.tokens, time.perf_counter())
        if streams is not None:
            streams.append(timings)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", self.url, content=self._payload(request)) as response,
            ):
                await _read(response, timings)
        except TimeoutError as err:
            raise AnswerFailedError(f"no whole answer within {self._timeout_s:g} s") from err
        except (httpx.HTTPError, httpx.InvalidURL) as err:
            raise AnswerFailedError(f"{type(err).__name__}: {err}"[:LONGEST_REASON]) from err
        return timings

    def _payload(self, request: Request) -> bytes:
        body = {
            "model": self.model,
            "messages": list(request.messages),
            "max_tokens": request.tokens,
            "temperature": 0,
            "stream": True,
            **self.extras,
        }
        body["stream_options"] = {"include_usage": True, **self.extras.get("stream_options", {})}
        return json.dumps(body).encode()


async def measure_window(
    client: LoadClient,
    requests: Iterator[Request],
    callers: int,
    counted: int,
    on_answer: Callable[[int], None] = lambda _: None,
    enough: Callable[[Sequence[StreamTimings]], bool] = lambda _: False,
) -> Window:
    """Keep `callers` busy until `counted` requests, all sent inside the window, have ended, or `enough` says so of the
    answers counted so far; `on_answer` hears how many.

    Raises EngineError when more requests fail than may: more than half of `counted`, and more than there are callers.
    """
    loop = _ClosedLoop(client, requests, callers, counted, on_answer, enough)
    await loop.run()
    return loop.window


class _ClosedLoop:
    def __init__(
        self,
        client: LoadClient,
        requests: Iterator[Request],
        callers: int,
        counted: int,
        on_answer: Callable[[int], None],
        enough: Callable[[Sequence[StreamTimings]], bool],
    ) -> None:
        self.window = Window(callers)
        self._client, self._requests, self._counted, self._on_answer = client, requests, counted, on_answer
        self._enough = enough
        self._warm: set[int] = set()
        self._sent = self._ended = 0
        self._cpu = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._error: EngineError | None = None
        self._over = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._caller(number)) for number in range(self.window.callers)]
        if self._error:
            raise self._error

    async def _caller(self, number: int) -> None:
        while not self._over:  # a cancellation can get lost in the HTTP library while it opens a connection
            counts = bool(self.window.opened) and self._sent < self._counted
            self._sent += counts
            await self._ask(counts)
            if not self.window.opened:
                self._warm.add(number)
                self.window.dropped += 1
                if len(self._warm) == self.window.callers:
                    self.window.opened, self._cpu = time.perf_counter(), time.process_time()

    async def _ask(self, counts: bool) -> None:
        try:
            timings = await self._client.ask(next(self._requests), self.window.streams)
        except AnswerFailedError as err:
            self._fail(str(err))
            await asyncio.sleep(PAUSE_S)
        else:
            if counts:
                self.window.answers.append(timings)
        if counts:
            self._ended += 1
            self._on_answer(self._ended)
            if self._ended == self._counted or self._enough(self.window.answers):
                self._close()

    def _fail(self, reason: str) -> None:
        """Failures of every request count, of the warm-up too: who hides them shows a server that is half down."""
        self.window.failures[reason] += 1
        failed = self.window.failures.total()
        if failed > max(self._counted // 2, self.window.callers):
            self._error = EngineError(
                f"endpoint {self._client.url}",
                f"{failed} requests failed, most often: {self.window.failures.most_common(1)[0][0]}",
                f"answers to {self._counted} requests at {self.window.callers} callers",
                "read the server's log",
            )
            self._cancel()

    def _close(self) -> None:
        self.window.closed = time.perf_counter()
        self.window.client_cpu = (time.process_time() - self._cpu) / self.window.seconds
        self._cancel()

    def _cancel(self) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()


class _RefusedError(AnswerFailedError):
    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body[:LONGEST_REASON]}")
        self.status = status


async def _read(response: httpx.Response, timings: StreamTimings) -> None:
    """Read a stream up to `[DONE]`; raises AnswerFailedError for one that is refused, in error, or without its end."""
    if response.status_code != 200:
        raise _RefusedError(response.status_code, (await response.aread()).decode(errors="replace"))
    name = ""
    async for line, now in _lines(response):
        key, _, value = line.partition(":")
        value = value.strip()
        if key == "event":
            name = value
        if key not in ("data", "error") or not value:
            continue
        if value == "[DONE]":
            return timings.close(now)
        if name == "error" or key == "error":
            raise AnswerFailedError(f"an error in the stream: {value[:LONGEST_REASON]}")
        timings.add(_event(value), now)
    raise AnswerFailedError(f"the stream ended after {len(timings.chunks)} chunks without [DONE]")


def _event(value: str) -> dict[str, Any]:
    try:
        event = json.loads(value)
    except ValueError as err:
        raise AnswerFailedError(f"an event that is not JSON: {value[:LONGEST_REASON]}") from err
    if not isinstance(event, dict) or event.get("error"):
        raise AnswerFailedError(f"an error in the stream: {value[:LONGEST_REASON]}")
    return event


async def _lines(response: httpx.Response) -> AsyncIterator[tuple[str, float]]:
    """Lines of an event stream with the time at which their bytes arrived. They end at CR or LF and nowhere else."""
    rest = b""
    async for data in response.aiter_bytes():
        now = time.perf_counter()
        *whole, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            yield line.decode(errors="replace"), now
    if rest:
        yield rest.decode(errors="replace"), time.perf_counter()
