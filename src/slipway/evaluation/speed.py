"""Speed of a served model at given concurrency, by one client: TTFT, inter-token latency, throughput.

Closed loop: `concurrency` callers, each asks again as soon as it has its answer. Every answer has `OUTPUT_TOKENS`
tokens whatever the model would say, so that models are compared at equal work. Prompts are test prompts, each used once
as far as they reach: the prefix that they share (the system prompt) is cached by the engine, as it is in production,
the rest is not. A warm-up comes first and is not counted. Client and server share the machine: figures of two clients
never mix.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

from slipway.data.rows import Row
from slipway.engines.chat_client import Answer, ChatClient
from slipway.system.progress import Progress

OUTPUT_TOKENS = 32


def measure(
    client: ChatClient, rows: Sequence[Row], concurrency: Sequence[int], requests: int, progress: Progress
) -> list[dict[str, Any]]:
    """One entry a concurrency, milliseconds and per-second rates; raises EngineError when the engine stops
    answering."""
    prompts = cycle([row["messages"][:-1] for row in rows])
    runs: list[dict[str, Any]] = []
    for callers in concurrency:
        with ThreadPoolExecutor(callers) as pool:

            def ask(messages: list[dict[str, str]]) -> Answer:
                return client.ask(messages, OUTPUT_TOKENS, fixed_length=True)

            list(pool.map(ask, islice(prompts, callers)))
            start = time.perf_counter()
            answers = list(pool.map(ask, islice(prompts, requests)))
            seconds = time.perf_counter() - start
        runs.append(summarize_runs(callers, answers, seconds))
        progress.update("speed", len(runs), len(concurrency), "runs", tokens_per_s=runs[-1]["tokens_per_s"])
    return runs


def summarize_runs(concurrency: int, answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """The figures of one run of `seconds`; TTFT over requests, ITL over every gap of every request."""
    gaps = [gap for answer in answers for gap in answer.gaps_s]
    return {
        "concurrency": concurrency,
        "requests": len(answers),
        "output_tokens": OUTPUT_TOKENS,
        "ttft_ms": _percentiles([answer.ttft_s for answer in answers]),
        "itl_ms": _percentiles(gaps),
        "tokens_per_s": round(sum(answer.completion_tokens for answer in answers) / seconds, 2),
        "requests_per_s": round(len(answers) / seconds, 3),
        "retries": sum(answer.retries for answer in answers),
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(1e3 * percentile(seconds, q), 2) for q in (50, 95)}


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, linear between order statistics (type 7 of Hyndman and Fan 1996); NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    at = (len(ordered) - 1) * q / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
