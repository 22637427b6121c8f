"""Cold and warm starts of a bundle, measured: seconds to ready and to the first answer, step by step, and the speed
after each.

    cold start      an empty cache; the one that caches are harvested from
    warm start      a copy of the bundle's caches
    spread          (largest - smallest) / median of the tokens per second after the warm starts

Tuned kernels are chosen anew where nothing freezes them, so the same engine may be faster or slower from boot to boot;
a comparison of two speeds must know by how much. The page cache is not dropped: a first start may read its weights from
the disk and a later one from memory, in an engine without caches that is the whole difference.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from slipway.config.base import Section
from slipway.engines.chat_client import Answer, ChatClient
from slipway.engines.driver import EngineKind, Limits
from slipway.engines.start_steps import LogWatch, compile_lines, patterns_of, step_seconds
from slipway.errors import EngineError

FIRST_TOKENS, ANSWER_TOKENS = 8, 16
MAX_PASSES = 5  # of warm-up, while the log still says that something is compiled
LOG_LAG_S = 2.0  # a container's or a node's log arrives behind its answers
WORD = "a "  # one token, or two where a tokenizer goes by bytes
SHORT = 8  # words of a short prompt
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class Boot(Section):
    """One start as it was measured."""

    start: Literal["cold", "warm"] = Field(description="Whether the caches were empty or the bundle's.")
    ready_s: float = Field(ge=0, description="Seconds from the process to a healthy server.")
    steps: dict[str, float] = Field(description="Step -> seconds; they sum to `ready_s`.")
    first_answer_s: float = Field(ge=0, description="Seconds of the first request, after ready.")
    first_token_s: float = Field(0, ge=0, description="Seconds of its first token.")
    tokens_per_s: float = Field(ge=0, description="Output tokens a second of all callers together, after warm-up.")
    passes: int = Field(1, ge=1, description="Passes of the traffic shapes until nothing was compiled any more.")
    compiled: int = Field(0, ge=0, description="Lines of the log, after ready, that say something was compiled.")
    settled: bool = Field(True, description="Whether the last pass compiled nothing.")
    stop_s: float = Field(0, ge=0, description="Seconds from SIGTERM to its end.")
    cold_because: list[str] = Field(default_factory=list, description="Why caches of the bundle were not used.")


@dataclass(frozen=True)
class Shape:
    """Requests of one kind sent together: callers at a time, words of a prompt, tokens of an answer."""

    callers: int
    prompt_words: int
    answer_tokens: int


def traffic_shapes(limits: Limits, overhead: int, *, caches: bool = True) -> list[Shape]:
    """Shapes that touch what a target's traffic touches: a lone caller and every batch size with a graph up to all
    slots, short prompts and such as fill up to half of the context. `overhead`: tokens of a short request's prompt,
    template included. Without `caches` there is nothing to fill: all slots with short prompts are enough."""
    answer = min(ANSWER_TOKENS, max(1, limits.context // 8))
    if not caches:
        return [Shape(limits.slots, SHORT, answer)]
    sizes = sorted({1, limits.slots, *(size for size in limits.graph_sizes if size <= limits.slots)})
    long_prompt = max(SHORT, (limits.context - answer - overhead) // 4)  # a word is one token or two
    return [Shape(callers, words, answer) for callers in sizes for words in dict.fromkeys((SHORT, long_prompt))]


def run_pass(client: ChatClient, shapes: Sequence[Shape]) -> list[Answer]:
    """Send every shape once. Raises EngineError for a request that is not answered."""
    return [answer for shape in shapes for answer in _burst(client, shape)]


def measure_boot(
    start: Literal["cold", "warm"],
    kind: EngineKind,
    client: ChatClient,
    watch: LogWatch,
    times: tuple[float, float],
    limits: Limits,
    *,
    caches: bool,
    cold_because: Sequence[str] = (),
) -> Boot:
    """Warm a server up that has just become ready, and measure it. `times`: when its process was started and when it
    was ready, by the watch's clock. Warm-up goes on while the log says that something is compiled, MAX_PASSES passes at
    most. Raises EngineError for a first answer without a token."""
    begin, ready = times
    mark = watch.mark()
    first = client.ask(QUESTION, FIRST_TOKENS)
    if first.completion_tokens < 1:
        raise EngineError("engine", "no token in its first answer", "at least one", f"read {watch.path}")
    shapes = traffic_shapes(limits, first.prompt_tokens, caches=caches)
    passes, settled = 0, False
    while not settled and passes < MAX_PASSES:
        before = watch.mark()
        run_pass(client, shapes)
        passes += 1
        settled = not _compiled(kind, watch, before)
    return Boot(
        start=start,
        ready_s=round(ready - begin, 3),
        steps={name: round(s, 3) for name, s in step_seconds(kind, watch.lines, begin, ready).items()},
        first_answer_s=round(first.seconds, 3),
        first_token_s=round(first.ttft_s, 3),
        tokens_per_s=round(speed(client, shapes), 2),
        passes=passes,
        compiled=len(compile_lines(kind, watch.lines[mark:])),
        settled=settled,
        cold_because=list(cold_because),
    )


def _compiled(kind: EngineKind, watch: LogWatch, since: int) -> bool:
    """Whether the log, from line `since` on, says that something was compiled; waits for a log that lags."""
    watch.look()
    if not patterns_of(kind).compiles:
        return False
    deadline = time.monotonic() + LOG_LAG_S
    while not compile_lines(kind, watch.lines[since:]):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOG_LAG_S / 20)
        watch.look()
    return True


def speed(client: ChatClient, shapes: Sequence[Shape], clock: Callable[[], float] = time.perf_counter) -> float:
    """Output tokens a second of the widest shape with short prompts, sent once more. A figure to compare boots by, not
    the speed of the engine (`evaluation/speed.py`)."""
    widest = max(shapes, key=lambda shape: (shape.callers, -shape.prompt_words))
    begin = clock()
    answers = _burst(client, widest)
    return sum(answer.completion_tokens for answer in answers) / max(1e-9, clock() - begin)


def boot_figures(boots: Sequence[Boot], caches: int) -> dict[str, Any]:
    """Flat figures of an engine's summary: medians with their ends, the steps' medians, the spread of speed. `caches`:
    how many caches the engine has; with none a warm start differs from a cold one by the page cache alone, and
    `start_cache` says so."""
    figures: dict[str, Any] = {"start_cache": f"{caches} caches" if caches else "none but the page cache"}
    for start in ("cold", "warm"):
        group = [boot for boot in boots if boot.start == start]
        if not group:
            continue
        seconds = [boot.ready_s for boot in group]
        figures[f"{start}_starts"] = len(group)
        figures[f"{start}_start_s"] = round(statistics.median(seconds), 2)
        if len(group) > 1:
            figures |= {f"{start}_start_min_s": round(min(seconds), 2), f"{start}_start_max_s": round(max(seconds), 2)}
        figures |= _step_medians(start, group)
    warm = [boot.tokens_per_s for boot in boots if boot.start == "warm"]
    if len(warm) > 1:
        figures["boot_speed_spread"] = round((max(warm) - min(warm)) / max(1e-9, statistics.median(warm)), 4)
    if unsettled := sum(not boot.settled for boot in boots):
        figures["boots_still_compiling"] = unsettled
    return figures


def _step_medians(start: str, group: Sequence[Boot]) -> dict[str, float]:
    """Of the steps that every boot of the group has; a median over some would hide the others."""
    common = [step for step in group[0].steps if all(step in boot.steps for boot in group)]
    medians = {f"{start}_{step}_s": statistics.median(boot.steps[step] for boot in group) for step in common}
    medians[f"{start}_first_answer_s"] = statistics.median(boot.first_answer_s for boot in group)
    return {name: round(value, 2) for name, value in medians.items()}


def _burst(client: ChatClient, shape: Shape) -> list[Answer]:
    """As many requests as callers, each with a prompt of its own: equal ones would share their prefix's cache."""
    prompts = [f"{number} {WORD * shape.prompt_words}" for number in range(shape.callers)]
    with ThreadPoolExecutor(shape.callers) as pool:
        return list(
            pool.map(
                lambda text: client.ask([{"role": "user", "content": text}], shape.answer_tokens, fixed_length=True),
                prompts,
            )
        )
