from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import pytest

from slipway.errors import EngineError, ResourceError
from slipway.evaluation.load_client import LoadClient, Window
from slipway.evaluation.speed import (
    CLIENT,
    check_counts,
    is_precise,
    measure,
    percentile,
    percentiles,
    request_stream,
    summarize_window,
)
from slipway.evaluation.stream_timings import Chunk, StreamTimings
from slipway.system.progress import Progress
from tests.support.timed_server import Script, timed

PROMPTS = [[{"role": "user", "content": "x"}], [{"role": "user", "content": "y"}]]


def answer(sent: float, *arrivals: float, usage: int | None = None, finish: str = "length") -> StreamTimings:
    """An answer whose tokens came at these times."""
    chunks = [Chunk(at, True, count + 1, "") for count, at in enumerate(arrivals)]
    ended = Chunk(arrivals[-1], False, len(arrivals), finish)
    return StreamTimings(len(arrivals), sent, [*chunks, ended], usage or len(arrivals), arrivals[-1])


@pytest.mark.parametrize(("q", "want"), [(0, 1), (50, 2.5), (95, 3.85), (100, 4)])
def test_percentiles_are_linear_between_order_statistics(q: float, want: float) -> None:
    assert percentile([4, 1, 3, 2], q) == pytest.approx(want)


def test_percentiles_of_one_and_of_none() -> None:
    assert percentile([7], 95) == 7
    assert math.isnan(percentile([], 50))


@pytest.mark.parametrize(("requests", "shown"), [(99, ["p50"]), (100, ["p50", "p95"]), (300, ["p50", "p95", "p99"])])
def test_a_percentile_is_shown_where_there_are_requests_enough(requests: int, shown: list[str]) -> None:
    assert list(percentiles([0.1, 0.2], requests)) == shown


def spread(count: int, tpot: float, ttft: float) -> list[StreamTimings]:
    """Answers of 11 tokens whose TPOT and TTFT lie by these shares above and below 10 ms and 50 ms, in turn."""
    answers = []
    for i in range(count):
        sign = 1 if i % 2 else -1
        first, step = 0.05 * (1 + sign * ttft), 0.01 * (1 + sign * tpot)
        answers.append(answer(0.0, *(first + step * token for token in range(11))))
    return answers


@pytest.mark.parametrize(
    ("count", "tpot", "ttft", "precise"),
    [
        (11, 0.0, 0.0, False),
        (12, 0.0, 0.0, True),
        (12, 0.033, 0.0, True),  # 0.033 * sqrt(12 / 11) / sqrt(12) = 0.00995
        (12, 0.034, 0.0, False),
        (30, 0.05, 0.0, True),
        (12, 0.0, 0.16, True),
        (12, 0.0, 0.17, False),
    ],
)
def test_a_lone_caller_ends_once_its_figures_are_known(count: int, tpot: float, ttft: float, precise: bool) -> None:
    assert is_precise(spread(count, tpot, ttft)) is precise


def test_figures_have_units_of_milliseconds_and_seconds() -> None:
    one, two = answer(0.0, 0.010, 0.012, 0.016), answer(0.1, 0.130, 0.136)
    before = answer(-1.0, -0.5, 0.2)  # asked before the window, one token in it
    window = Window(2, [one, two], Counter({"HTTP 503": 1}), 0.0, 0.5, 2, [before, one, two], 0.25)
    run = summarize_window(window, (2, 3))
    assert run == {
        "client": CLIENT,
        "concurrency": 2,
        "requests": 2,
        "errors": 1,
        "error_reasons": {"HTTP 503": 1},
        "dropped": 2,
        "output_tokens": [2, 3],
        "prompt_tokens": 0,
        "short": 0,
        "counted_by": "server",
        "ttft_ms": {"p50": 20.0},
        "ttft_quantiles_ms": [10.0 + n for n in range(21)],  # 10 and 30 ms
        "itl_quantiles_ms": [round(2 + n / 5, 2) for n in range(21)],  # 2, 4 and 6 ms
        "itl_ms": {"p50": 4.0},
        "tpot_ms": {"p50": 4.5},
        "tokens_per_s": 12.0,
        "requests_per_s": 6.0,
        "seconds": 0.5,
        "client_cpu": 0.25,
    }


def test_a_window_without_an_answer_is_an_error() -> None:
    with pytest.raises(EngineError, match="HTTP 503"):
        summarize_window(Window(1, failures=Counter({"HTTP 503": 3})), (2, 3))


@pytest.mark.parametrize(("usage", "agrees"), [(100, True), (102, True), (103, False), (97, False)])
def test_a_disagreement_of_more_than_two_percent_is_an_error(usage: int, agrees: bool) -> None:
    one = answer(0.0, *(0.01 * at for at in range(1, 101)), usage=usage)
    if agrees:
        check_counts([one])
    else:
        with pytest.raises(EngineError, match=f"100 counted as they arrived, {usage}"):
            check_counts([one])


def test_the_token_that_ends_an_answer_may_have_no_text() -> None:
    check_counts([answer(0.0, 0.1, 0.2, usage=3, finish="stop")])
    with pytest.raises(EngineError):
        check_counts([answer(0.0, 0.1, 0.2, usage=3)])


def test_lengths_are_spread_and_the_same_for_a_seed() -> None:
    lengths = [request.tokens for request in islice(request_stream(PROMPTS, (48, 64)), 200)]
    assert lengths == [request.tokens for request in islice(request_stream(PROMPTS, (48, 64)), 200)]
    assert set(lengths) == set(range(48, 65))
    assert [r.messages for r in islice(request_stream(PROMPTS, (1, 1)), len(PROMPTS))] == PROMPTS


def test_a_prompt_that_is_asked_again_is_in_no_cache_of_prefixes() -> None:
    system, parts = {"role": "system", "content": "s"}, [{"type": "text", "text": "look"}]
    prompts = [
        [system, {"role": "user", "content": "x"}, {"role": "assistant", "content": ""}],
        [{"role": "user", "content": parts}],
    ]
    asked = [request.messages for request in islice(request_stream(prompts, (1, 1)), 6)]
    assert asked[:2] == prompts
    assert asked[2] == [system, {"role": "user", "content": "(2) x"}, {"role": "assistant", "content": ""}]
    assert asked[3] == [{"role": "user", "content": [{"type": "text", "text": "(2) "}, *parts]}]
    assert all(asked.count(messages) == 1 for messages in asked)
    assert next(islice(request_stream([[system]], (1, 1)), 1, None)).messages == [
        {"role": "system", "content": "(2) s"}
    ]


def test_a_run_at_every_concurrency_with_its_settings() -> None:
    script = Script(first_s=0.01, gap_s=0.002)
    with timed(script) as url:
        runs = measure(LoadClient(url, "m", 20), PROMPTS, [1, 3], 6, Progress(), (3, 5))
    assert [(run["concurrency"], run["requests"], run["errors"]) for run in runs] == [(1, 6, 0), (3, 6, 0)]
    assert all(run["counted_by"] == "server" and run["short"] == 0 for run in runs)
    assert all(run["ttft_ms"]["p50"] >= 10 for run in runs)
    assert all(run["settings"]["ignore_eos"] and run["settings"]["prompt_count"] == 2 for run in runs)
    assert {body["max_tokens"] for body in script.bodies} <= {3, 4, 5}


def test_chunks_of_many_tokens_without_their_count_are_refused() -> None:
    """Speculative decoding, and usage at the end alone: one token a chunk would make ITL three times too long."""
    with timed(Script(per_chunk=3, usage="end")) as url, pytest.raises(EngineError, match="by the server's usage"):
        measure(LoadClient(url, "m", 20), PROMPTS, [1], 4, Progress(), (6, 9))


def test_a_server_whose_usage_is_wrong_is_refused() -> None:
    with timed(Script(inflate=1.1)) as url, pytest.raises(EngineError, match="by the server's usage"):
        measure(LoadClient(url, "m", 20), PROMPTS, [1], 4, Progress(), (20, 20))


def test_answers_that_end_early_are_counted_as_short() -> None:
    with timed(Script(eos_after=2)) as url:
        run = measure(LoadClient(url, "m", 20), PROMPTS, [1], 4, Progress(), (6, 6))[0]
    assert run["short"] == 4


def test_nobody_there_is_a_missing_service() -> None:
    with timed(Script()) as url:
        pass
    with pytest.raises(ResourceError, match="ConnectError"):
        measure(LoadClient(url, "m", 5), PROMPTS, [1], 4, Progress())
