"""The client against a server of scripted delays: each way to fool oneself is a script."""

from __future__ import annotations

import asyncio
from itertools import repeat

import pytest

from slipway.errors import EngineError
from slipway.evaluation.load_client import EXTRAS, LoadClient, Request, Window, measure_window
from slipway.evaluation.speed import request_stream
from slipway.evaluation.stream_timings import AnswerFailedError, StreamTimings
from tests.support.timed_server import Script, timed


def request(text: str, tokens: int = 4) -> Request:
    return Request([{"role": "user", "content": text}], tokens)


def ask(script: Script, text: str, timeout_s: float = 120) -> StreamTimings:
    async def once(url: str) -> StreamTimings:
        async with LoadClient(url, "m", timeout_s) as client:
            return await client.ask(request(text))

    with timed(script) as url:
        return asyncio.run(once(url))


def window(script: Script, callers: int, counted: int, text: str = "x") -> Window:
    async def measured(url: str) -> Window:
        async with LoadClient(url, "m", 20) as client:
            return await measure_window(client, repeat(request(text)), callers, counted)

    with timed(script) as url:
        return asyncio.run(measured(url))


@pytest.mark.parametrize("usage", ["every", "end"])
def test_the_times_are_those_of_the_script(usage: str) -> None:
    timings = ask(Script(first_s=0.1, gap_s=0.05, usage=usage), "x")
    assert timings.by_server == (usage == "every")
    assert (timings.counted, timings.usage) == (4, 4)
    assert timings.ttft_s >= 0.1
    assert timings.end is not None and timings.end - timings.sent >= 0.1 + 3 * 0.05 - 0.01
    assert len(timings.gaps_s()) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error event", "an error in the stream.*out of memory"),
        ("no done", r"without \[DONE\]"),
        ("no usage", "no usage"),
        ("refuse", "HTTP 503.*no slot available"),
        ("half", "RemoteProtocolError"),
        ("garbage", "not JSON"),
    ],
)
def test_half_an_answer_is_a_failure_with_its_reason(fault: str, reason: str) -> None:
    with pytest.raises(AnswerFailedError, match=reason):
        ask(Script(usage="end"), fault)


def test_an_answer_that_never_ends_is_a_failure() -> None:
    with pytest.raises(AnswerFailedError, match=r"(within 0\.3 s|Timeout)"):
        ask(Script(), "hang", timeout_s=0.3)


def test_the_window_opens_while_all_callers_are_busy_and_the_first_wave_is_dropped() -> None:
    script = Script(gap_s=0.005)
    result = window(script, 4, 12)
    assert len(result.answers) == 12
    assert result.dropped >= 4
    assert all(answer.sent >= result.opened for answer in result.answers)
    assert all(answer.end is not None and answer.end <= result.closed for answer in result.answers)
    assert len(result.streams) > 12 + 4  # the load is kept up until the last counted answer
    assert script.most_running >= 4


def test_the_first_wave_queues_for_its_prompts_and_is_not_in_the_figures() -> None:
    """Eight callers begin at once before 20 ms a prompt, one at a time: the last of the wave waits 160 ms. Spread over
    answers that take longer than eight prompts, nobody queues like that again."""
    script = Script(prefill_s=0.02, gap_s=0.02)
    requests = request_stream([[{"role": "user", "content": "x"}]], (10, 16))

    async def measured(url: str) -> Window:
        async with LoadClient(url, "m", 20) as client:
            return await measure_window(client, requests, 8, 24)

    with timed(script) as url:
        result = asyncio.run(measured(url))
    first_wave = max(stream.ttft_s for stream in result.streams[:8])
    assert sum(a.ttft_s for a in result.answers) / len(result.answers) < 0.7 * first_wave


def test_failures_are_counted_and_not_tried_again() -> None:
    requests = iter([request("x")] * 4 + [request("refuse"), request("x")] * 20)
    script = Script()

    async def measured(url: str) -> Window:
        async with LoadClient(url, "m", 20) as client:
            return await measure_window(client, requests, 1, 8)

    with timed(script) as url:
        result = asyncio.run(measured(url))
    assert result.failures.total() + len(result.answers) == 8
    assert result.failures.most_common(1)[0][0].startswith("HTTP 503")
    asked = [body["messages"][0]["content"] for body in script.bodies]
    assert asked.count("refuse") == result.failures.total()


def test_a_server_that_refuses_everything_ends_the_run() -> None:
    with pytest.raises(EngineError, match=r"requests failed.*no slot available"):
        window(Script(), 2, 10, "refuse")


@pytest.mark.parametrize("refused", range(len(EXTRAS)))
def test_a_server_is_asked_for_what_it_accepts(refused: int) -> None:
    script = Script(strict=("timings_per_token", "continuous_usage_stats", "ignore_eos")[:refused])

    async def negotiated(url: str) -> LoadClient:
        async with LoadClient(url, "m", 20) as client:
            await client.negotiate(request("x"))
            return client

    with timed(script) as url:
        assert asyncio.run(negotiated(url)).extras == EXTRAS[refused]


def test_throughput_counts_every_token_of_the_window() -> None:
    result = window(Script(first_s=0.02, gap_s=0.01), 3, 24)
    assert result.completions() >= 24
    assert result.tokens() / result.seconds == pytest.approx(4 * result.completions() / result.seconds, rel=0.35)
    assert 0 < result.client_cpu < 2


class Deaf(LoadClient):
    """Loses cancellations, as the HTTP library did for 2 of 64 callers that were opening a connection."""

    async def ask(self, request: Request, streams: list[StreamTimings] | None = None) -> StreamTimings:
        timings = StreamTimings(request.tokens, 0.0)
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return timings


def test_a_cancellation_that_gets_lost_leaves_no_caller_behind() -> None:
    async def measured() -> Window:
        client = Deaf("http://127.0.0.1:9/v1", "m", 20)
        return await asyncio.wait_for(measure_window(client, repeat(request("x")), 8, 16), 120)

    assert len(asyncio.run(measured()).answers) == 16
