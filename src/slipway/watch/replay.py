"""Test rows of an evaluation, asked again of what serves: each row with its answer then and now.

Rows are asked as the evaluation asked them: greedily, the same tools, the same longest answer. Which ones is decided by
a hash of release, look and row, evenly over labels, so that looks together cover the whole test set. Both answers are
scored by the same functions, so that a metric whose code changed since is no drift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from slipway.data.reasoning import parted
from slipway.engines.chat_client import Answer, ChatClient
from slipway.errors import EngineError
from slipway.evaluation.metric import clusters_of
from slipway.evaluation.quality import choose
from slipway.evaluation.scorer import Example, Scorer
from slipway.watch.baseline import Baseline

T = TypeVar("T")


@dataclass(frozen=True)
class Answered:
    """One row's answers. `then`, `now`: values by metric (None: it does not apply); `tokens_*`: tokens that the engine
    counted; `cluster`: the row's template."""

    id: str
    cluster: str
    then: dict[str, float | None]
    now: dict[str, float | None]
    tokens_then: int
    tokens_now: int


@dataclass(frozen=True)
class Replayed:
    """Rows `asked`, those that were `answered`, and the first reason why others were not."""

    asked: int
    answered: Sequence[Answered]
    reason: str = ""


def replay(baseline: Baseline, client: ChatClient, count: int, seed: str, at_once: int) -> Replayed:
    """Ask `count` rows again. Raises EngineError when not one is answered."""
    order = sorted(range(len(baseline.rows)), key=lambda at: digest(seed, str(baseline.rows[at]["id"])))
    places = {str(baseline.rows[at]["id"]): at for at in order}
    chosen = [places[str(row["id"])] for row in choose([baseline.rows[at] for at in order], count)]

    def ask(at: int) -> Answer | str:
        row = baseline.rows[at]
        return asked(lambda: client.ask(row["messages"][:-1], baseline.max_new_tokens, tools=row.get("tools", ())))

    answers = in_order(ask, chosen, at_once)
    reasons = [answer for answer in answers if isinstance(answer, str)]
    if len(reasons) == len(chosen):
        raise EngineError("what serves", f"answered none of {len(chosen)} test rows: {reasons[0]}", "answers",
                          "`slipway status`; read its engine.log; `slipway start TARGET`")  # fmt: skip
    both = [(at, answer) for at, answer in zip(chosen, answers, strict=True) if isinstance(answer, Answer)]
    return Replayed(len(chosen), [_answered(baseline, at, answer) for at, answer in both], next(iter(reasons), ""))


def asked(ask: Callable[[], Answer]) -> Answer | str:
    """The whole answer, or why there is none."""
    try:
        return ask()
    except EngineError as err:
        return f"{err.thing}: {err.value}"[:300]


def in_order(answer: Callable[[T], Answer | str], rows: Sequence[T], at_once: int) -> list[Answer | str]:
    """`answer` of every row, in their order, `at_once` at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(answer, rows))


def digest(seed: str, text: str) -> str:
    """An order of texts that looks random and is the same on every machine."""
    return sha256(f"{seed}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _answered(baseline: Baseline, at: int, now: Answer) -> Answered:
    row, item = baseline.rows[at], baseline.items[at]
    then = Example(row, str(item["answer"]), item.get("calls", ()))
    today = Example(row, parted(now.text)[1], now.calls)
    return Answered(
        str(item["id"]),
        clusters_of([item])[0],
        _values(baseline.measures, then),
        _values(baseline.measures, today),
        int(item["tokens"]),
        now.completion_tokens,
    )


def _values(measures: Sequence[Scorer], example: Example) -> dict[str, float | None]:
    return {scorer.metric.name: scorer.score(example) for scorer in measures}
