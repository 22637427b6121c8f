"""Speed of a served model at given concurrency, as its users feel it: TTFT, inter-token latency, throughput, errors.

A lone caller's requests do not overlap, so that the standard error of their mean says how well it is known: a run of
fewer than a p95's requests ends once TPOT is known to 1% and TTFT to 5% of itself, after 12 requests at the earliest.

Measured by `evaluation.load_client` with greedy answers of `OUTPUT_TOKENS` tokens whatever the model would say (where
the server can ignore its end token), so that models are compared at equal work. The prefix that all
prompts share is cached by the engine, as it is in production, the rest is not: where there are fewer prompts than
requests, those that are asked again begin with the number of the turn. Percentiles are
printed where they mean something: a p95 of at least 100 requests, a p99 of at least 300. Figures of two clients never
mix: every run names its `client`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from slipway.errors import EngineError, ResourceError
from slipway.evaluation.load_client import LoadClient, Request, Window, measure_window
from slipway.evaluation.stream_timings import AnswerFailedError, StreamTimings
from slipway.system.progress import Progress

CLIENT = "slipway asyncio 2"  # 2: prompts asked again are marked
OUTPUT_TOKENS = (24, 40)
SEED = 0
ENOUGH = {50: 1, 95: 100, 99: 300}  # requests that a percentile needs
PRECISE_FROM, TPOT_ERROR, TTFT_ERROR = 12, 0.01, 0.05  # requests; standard error over mean
UNCOUNTED = 4  # requests of a caller that a window does not count, about
LARGEST_DISAGREEMENT = 0.02
QUANTILES = range(0, 101, 5)  # percent
Messages = Sequence[dict[str, Any]]


def measure(
    client: LoadClient,
    prompts: Sequence[Messages],
    concurrency: Sequence[int],
    requests: int,
    progress: Progress,
    output_tokens: tuple[int, int] = OUTPUT_TOKENS,
) -> list[dict[str, Any]]:
    """One entry a concurrency, milliseconds and per-second rates, answers of `output_tokens` (least, most) tokens.

    Raises ResourceError when nobody answers, EngineError when the engine stops answering or its counts contradict
    each other.
    """
    return asyncio.run(_measure(client, prompts, concurrency, requests, progress, output_tokens))


async def _measure(
    client: LoadClient,
    prompts: Sequence[Messages],
    concurrency: Sequence[int],
    requests: int,
    progress: Progress,
    output_tokens: tuple[int, int],
) -> list[dict[str, Any]]:
    runs, used = [], 0
    async with client:
        await _negotiate(client, Request(prompts[0], output_tokens[0]))
        for callers in concurrency:
            work = islice(request_stream(prompts, output_tokens), used, None)  # the same, however early a run ended
            used += requests + UNCOUNTED * callers
            enough = is_precise if callers == 1 and requests < ENOUGH[95] else lambda _: False
            report = _reporter(progress, callers, requests)
            window = await measure_window(client, work, callers, requests, report, enough)
            runs.append({**summarize_window(window, output_tokens), "settings": settings(client, prompts)})
            progress.note(f"{callers} callers: {runs[-1]['tokens_per_s']:g} tokens/s")
    return runs


async def _negotiate(client: LoadClient, request: Request) -> None:
    try:
        await client.negotiate(request)
    except AnswerFailedError as err:
        kind = ResourceError if "Connect" in str(err) else EngineError
        raise kind(
            f"endpoint {client.url}", str(err), "an OpenAI-compatible chat endpoint that streams", "see what runs there"
        ) from err


def _reporter(progress: Progress, callers: int, requests: int) -> Callable[[int], None]:
    return lambda ended: progress.update(f"speed at {callers}", ended, requests, "requests")


def request_stream(prompts: Sequence[Messages], output_tokens: tuple[int, int], seed: int = SEED) -> Iterator[Request]:
    """Endless requests, the same for the same seed: lengths uniform in the range (both ends), the prompts in turn, from
    the second turn on marked, as an engine's cache of prefixes would have them whole."""
    lengths = random.Random(seed)  # noqa: S311 (a load, no secret)
    for turn in count(1) if prompts else ():
        for messages in prompts:
            asked = messages if turn == 1 else _marked(messages, f"({turn}) ")
            yield Request(asked, lengths.randint(*output_tokens))


def _marked(messages: Messages, mark: str) -> Messages:
    """The prompt with `mark` before its last user's text: what stands before that is shared on purpose."""
    if not messages:
        return messages
    at = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=len(messages) - 1)
    content = messages[at].get("content")
    if isinstance(content, list):
        new: Any = [{"type": "text", "text": mark}, *content]
    else:
        new = f"{mark}{content or ''}"
    return [*messages[:at], {**messages[at], "content": new}, *messages[at + 1 :]]


def is_precise(answers: Sequence[StreamTimings]) -> bool:
    """Whether TPOT and TTFT of requests that do not overlap are known: their standard errors are at most TPOT_ERROR and
    TTFT_ERROR of their means."""
    tpot = [answer.tpot_s for answer in answers if answer.tpot_s is not None]
    ttft = [answer.ttft_s for answer in answers]
    if min(len(tpot), len(ttft)) < PRECISE_FROM:
        return False
    return _relative_error(tpot) <= TPOT_ERROR and _relative_error(ttft) <= TTFT_ERROR


def _relative_error(values: Sequence[float]) -> float:
    """Standard error of the mean over the mean, of values above zero."""
    return statistics.stdev(values) / math.sqrt(len(values)) / statistics.fmean(values)


def settings(client: LoadClient, prompts: Sequence[Messages]) -> dict[str, Any]:
    """What two runs must have in common to be compared, beside concurrency, lengths and client."""
    text = json.dumps([list(messages) for messages in prompts]).encode()
    return {
        "prompts": hashlib.sha256(text).hexdigest()[:16],
        "prompt_count": len(prompts),
        "sampling": "greedy",
        "ignore_eos": bool(client.extras.get("ignore_eos")),
        "seed": SEED,
    }


def summarize_window(window: Window, output_tokens: tuple[int, int]) -> dict[str, Any]:
    """The figures of one window; TTFT and TPOT over requests, ITL over every token of every request after its first.

    Raises EngineError when no request was answered, or tokens counted by chunk and by usage differ by more than 2%.
    """
    answers = window.answers
    if not answers:
        raise EngineError(
            f"speed at {window.callers} callers", dict(window.failures.most_common(3)), "answers", "read the log"
        )
    check_counts(answers)
    n = len(answers)
    return {
        "client": CLIENT,
        "concurrency": window.callers,
        "requests": n,
        "errors": window.failures.total(),
        "error_reasons": dict(window.failures.most_common(5)),
        "dropped": window.dropped,
        "output_tokens": list(output_tokens),
        "prompt_tokens": round(sum(answer.prompt for answer in answers) / n),
        "short": sum((answer.usage or 0) < answer.asked for answer in answers),
        "counted_by": "server" if all(answer.by_server for answer in answers) else "chunk",
        "ttft_ms": percentiles([answer.ttft_s for answer in answers], n),
        "itl_ms": percentiles([gap for answer in answers for gap in answer.gaps_s()], n),
        "ttft_quantiles_ms": quantiles([answer.ttft_s for answer in answers]),
        "itl_quantiles_ms": quantiles([gap for answer in answers for gap in answer.gaps_s()]),
        "tpot_ms": percentiles([a.tpot_s for a in answers if a.tpot_s is not None], n),
        "tokens_per_s": round(window.tokens() / window.seconds, 2),
        "requests_per_s": round(window.completions() / window.seconds, 3),
        "seconds": round(window.seconds, 2),
        "client_cpu": round(window.client_cpu, 3),
    }


def check_counts(answers: Sequence[StreamTimings]) -> None:
    """Raises EngineError when the tokens that arrived and those of the server's usage differ by more than 2%.

    An answer that the model ended itself may differ by the one token that says so.
    """
    arrived, usage = sum(answer.counted for answer in answers), sum(answer.usage or 0 for answer in answers)
    stops = sum(answer.stopped for answer in answers)
    if abs(arrived - usage) > LARGEST_DISAGREEMENT * usage + stops:
        raise EngineError(
            f"tokens of {len(answers)} answers",
            f"{arrived} counted as they arrived, {usage} by the server's usage",
            f"a difference of at most {100 * LARGEST_DISAGREEMENT:g}%",
            "inter-token latency is not measurable here: use an engine that sends usage with every chunk",
        )


def percentiles(seconds: Sequence[float], requests: int) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds, those that this many requests can tell; empty without values."""
    return {
        f"p{q}": round(1e3 * percentile(seconds, q), 2) for q, least in ENOUGH.items() if seconds and requests >= least
    }


def quantiles(seconds: Sequence[float]) -> list[float]:
    """The distribution as its quantiles of 0, 5, ... 100%, milliseconds; empty without values. A tail of few requests
    is what was seen of it, no estimate."""
    return [round(1e3 * percentile(seconds, q), 2) for q in QUANTILES] if seconds else []


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, linear between order statistics (type 7 of Hyndman and Fan 1996); NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    at = (len(ordered) - 1) * q / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
