"""Mixed precision by measurement: which weights leave the small format, under a budget of bits per parameter.

Every unit that a runtime needs in one format (q/k/v, gate/up, all experts of a layer) stands on a ladder: the format
asked for, FP8, bf16. A step up costs bits * parameters and takes away the error measured on the lower rung. Steps are
taken in the order of error removed per bit, the best first, as long as the average stays within the budget: the greedy
solution of the knapsack problem, at most one step away from the best one. Errors are relative (of each unit's own
output or weight), so that every unit counts alike however large its numbers are.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slipway.errors import ConfigError


@dataclass(frozen=True)
class Rung:
    """One format for a unit: its relative squared error, measured, and its bits per parameter."""

    fmt: str
    bits: float
    error: float


@dataclass(frozen=True)
class Ladder:
    """A unit's rungs, from the format asked for up to bf16; `modules` are the unit's, `parameters` their number
    together."""

    modules: tuple[str, ...]
    parameters: int
    rungs: tuple[Rung, ...]


def assign_formats(ladders: Sequence[Ladder], max_bits: float) -> dict[str, str]:
    """Module -> format. Raises ConfigError when the lowest rungs alone are above the budget."""
    total = sum(ladder.parameters for ladder in ladders)
    spent = sum(ladder.parameters * ladder.rungs[0].bits for ladder in ladders)
    if spent > max_bits * total:
        raise ConfigError(
            "quantize.max_bits",
            max_bits,
            f"at least {spent / total:.3f}, what {ladders[0].rungs[0].fmt} takes",
            "raise it, or leave it out",
        )
    level = [0] * len(ladders)
    steps = [step for i, ladder in enumerate(ladders) if (step := _step(i, ladder, 0))]
    heapq.heapify(steps)
    while steps:
        _, i, target, cost = heapq.heappop(steps)
        if spent + cost > max_bits * total:
            continue  # a smaller unit may still fit
        spent += cost
        level[i] = target
        if step := _step(i, ladders[i], target):
            heapq.heappush(steps, step)
    return {module: ladder.rungs[level[i]].fmt for i, ladder in enumerate(ladders) for module in ladder.modules}


def _step(i: int, ladder: Ladder, at: int) -> tuple[float, int, int, float] | None:
    """(minus the error removed per bit, unit, rung, bits) of the best step up from rung `at`."""
    candidates = []
    for target in range(at + 1, len(ladder.rungs)):
        cost = ladder.parameters * (ladder.rungs[target].bits - ladder.rungs[at].bits)
        gain = ladder.rungs[at].error - ladder.rungs[target].error
        if gain > 0:
            candidates.append((-gain / cost, i, target, cost))
    return min(candidates, default=None)


def table(ladders: Sequence[Ladder], chosen: Mapping[str, str]) -> list[dict[str, object]]:
    """What was measured and chosen, for the record."""
    return [
        {
            "modules": list(ladder.modules),
            "parameters": ladder.parameters,
            "chosen": chosen[ladder.modules[0]],
            "errors": {rung.fmt: rung.error for rung in ladder.rungs},
        }
        for ladder in ladders
    ]
