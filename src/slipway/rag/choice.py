"""Which arm is chosen: by recall at an equal budget, on one half of the questions; reported on the other.

    best        the highest mean on the half `choose`
    apart       arms whose paired difference from the best holds after Holm's correction
    tie         arms whose mean is within `margin` of the best's; the cheapest of them wins
    decided     the winner is the best, and every other arm is apart from it
    tied        the winner is the cheapest of the tie
    undecided   fewer than `LEAST` questions a half, or an interval of the tie is wider than `half_width` either way:
                the first arm of the config stays, unless it is apart from the best on enough questions: then the
                cheapest of the tie. The number of questions that would decide is named

An arm that is not told apart from the best, but further from it than the margin, does not win: a wide interval is no
argument for a worse arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.config.rag import ChoiceConfig
from slipway.evaluation.bootstrap import BootstrapDifference, paired_bootstrap, resampling_unit
from slipway.evaluation.multiplicity import holm
from slipway.rag.questions import Half

LEAST = 25  # questions of a half: below, a percentile interval says little
FEWEST = 2 * LEAST
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One strategy with one retriever: its metric for each question by id, and what it costs."""

    name: str
    values: Mapping[str, float]
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Asked:
    """A question as the choice sees it."""

    id: str
    document: str
    half: Half


def choose(arms: Sequence[Arm], questions: Sequence[Asked], params: ChoiceConfig) -> dict[str, Any]:
    """The choice as a document: outcome, winner, the tie, a row for each arm on both halves, and what would decide.

    Arms come in the order of the config: the first stays where nothing is decided.
    """
    halves = {half: [one for one in questions if one.half == half] for half in ("choose", "report")}
    tables = {half: _table(arms, rows) for half, rows in halves.items()}
    means = tables["choose"].mean(0)
    best = int(means.argmax())
    against = _differences(tables["choose"], best, halves["choose"], params)
    apart = _apart(against, best, params)
    tie = [at for at in range(len(arms)) if means[best] - means[at] <= params.margin]
    cheapest = min(tie, key=lambda at: tuple(arms[at].costs[name] for name in params.prefer))
    needed = _needed(against, [at for at in tie if at != best], halves, params)
    outcome = _outcome(apart, best, needed)
    enough = min(map(len, halves.values())) >= LEAST
    winner = {"decided": best, "tied": cheapest, "undecided": cheapest if enough and apart[0] else 0}[outcome]
    reported = _differences(tables["report"], winner, halves["report"], params)
    means_reported = paired_bootstrap(tables["report"], *_draw(halves["report"], params))
    rows = [
        {
            "arm": arm.name,
            "choose": float(means[at]),
            "choose_difference": _interval(against[at]),
            "apart": apart[at],
            "in_tie": at in tie,
            "report": _interval(means_reported[at]),
            "report_difference": _interval(reported[at]),
            "costs": dict(arm.costs),
        }
        for at, arm in enumerate(arms)
    ]
    return {
        "outcome": outcome,
        "winner": arms[winner].name,
        "best": arms[best].name,
        "tie": [arms[at].name for at in tie],
        "questions": {half: len(rows) for half, rows in halves.items()},
        "resampled_by": resampling_unit([one.document for one in halves["choose"]]),
        "documents": len({one.document for one in questions}),
        "widest_half_width": max((d.half_width for at, d in enumerate(against) if at != best), default=0.0),
        "widest_in_tie": max((against[at].half_width for at in tie if at != best), default=0.0),
        "questions_needed": needed,
        "confidence": params.confidence,
        "margin": params.margin,
        "prefer": list(params.prefer),
        "arms": rows,
    }


def _table(arms: Sequence[Arm], questions: Sequence[Asked]) -> F64:
    return np.array([[arm.values[one.id] for arm in arms] for one in questions], np.float64).reshape(-1, len(arms))


def _draw(questions: Sequence[Asked], params: ChoiceConfig) -> tuple[list[str], float, int, int]:
    return [one.document for one in questions], params.confidence, params.resamples, params.seed


def _differences(
    table: F64, reference: int, questions: Sequence[Asked], params: ChoiceConfig
) -> list[BootstrapDifference]:
    """The reference arm minus each arm."""
    return paired_bootstrap(table[:, [reference]] - table, *_draw(questions, params))


def _apart(against: Sequence[BootstrapDifference], best: int, params: ChoiceConfig) -> list[bool]:
    others = [at for at in range(len(against)) if at != best]
    rejected = holm([against[at].p for at in others], 1 - params.confidence)
    by_arm = dict(zip(others, rejected, strict=True))
    return [by_arm.get(at, False) for at in range(len(against))]


def _needed(
    against: Sequence[BootstrapDifference],
    open_arms: Sequence[int],
    halves: Mapping[str, Sequence[Asked]],
    params: ChoiceConfig,
) -> int | None:
    """Questions in all that would bring every open interval down to `half_width`; None where they are."""
    per_half = min(map(len, halves.values()))
    widest = max((against[at].half_width for at in open_arms), default=0.0)
    by_width = math.ceil(per_half * (widest / params.half_width) ** 2) if widest > params.half_width else 0
    wanted = max(by_width, LEAST if per_half < LEAST else 0)
    return 2 * wanted if wanted else None


def _outcome(apart: Sequence[bool], best: int, needed: int | None) -> str:
    if needed is not None:
        return "undecided"
    return "decided" if all(one for at, one in enumerate(apart) if at != best) else "tied"


def _interval(one: BootstrapDifference) -> dict[str, float]:
    return {"value": one.value, "low": one.low, "high": one.high}
