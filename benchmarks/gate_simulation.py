"""How often the gate promotes what is worse and turns away what is as good, and where 50 promotions in a row lead.

`python -m benchmarks.gate_simulation --work DIR`: pairs of models are drawn, judged by the gate's own rule, and beside
it, on the same draws, by "at most one point below the champion". Prints one JSON line. A model is right on item i of
template t where

    sqrt(h) D_ti + sqrt(1 - h) N_ti < z(q)

with q its true share of right answers, D the difficulty that all models share, N its own noise, both standard normal;
items of one template have a part of D and of N in common. h is what gives two equal models the wanted share of items on
which they differ. So q is known, and what is promoted wrongly can be counted. `--items CANDIDATE CHAMPION`, directories
of two evaluations, takes their templates, their share of right answers and the share of items on which they differ
instead of the embedded task's (238 items of 99 templates, 83.6% right; two training seeds differ on 13%).

    false promote   the candidate is worse by the whole margin and passes; at most alpha
    false reject    the candidate is as good and does not pass; at most beta, at the number of items planned for it
    chain           50 candidates in a row, each a step worse than what serves then, each with something new; the loss
                    is that of the last one promoted against the first champion
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import RunFailedError, emit, say
from slipway.config.gate_rows import GateRow
from slipway.evaluation.clusters import effective_items
from slipway.evaluation.comparison import read_side
from slipway.evaluation.metric import Metric, clusters_of, entries, values_of
from slipway.evaluation.multiplicity import look_alpha, trial_alpha
from slipway.evaluation.paired_rules import Evaluated, non_inferiority_rule, paired_differences
from slipway.evaluation.statistics import paired_difference

ALPHA, BETA = 0.05, 0.2
METRIC = Metric("right", "right answers")
NORMAL = NormalDist()
ONE_POINT = 0.01
TEMPLATE_DIFFICULTY, TEMPLATE_NOISE = 0.5, 0.4  # shares that items of one template have in common
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """Items per template, the champion's true share of right answers, and the share of items on which two equal models
    differ."""

    sizes: tuple[int, ...]
    right: float
    differ: float

    @property
    def items(self) -> int:
        """Items of the test set."""
        return sum(self.sizes)

    def grown(self, items: int) -> Task:
        """The same kind of templates, as many as make `items` items or a little more."""
        sizes: list[int] = []
        while sum(sizes) < items:
            sizes.append(self.sizes[37 * len(sizes) % len(self.sizes)])  # in another order than they stand in
        return Task(tuple(sizes), self.right, self.differ)


# 99 templates with 238 items: many with one or two, some with ten, as a cap of ten a label leaves them
EMBEDDED = Task((1,) * 45 + (2,) * 24 + (3,) * 12 + (5,) * 9 + (8,) * 5 + (6,) * 4, 0.836, 0.13)


class Draws:
    """Test sets and the answers of models to them, for one task. `h`: the share of difficulty that models share."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.random = task, np.random.default_rng(seed)
        self.of_item = np.repeat(np.arange(len(task.sizes)), task.sizes)
        self.clusters = [f"t{t}" for t in self.of_item]
        self.h = shared_difficulty(task.right, task.differ)

    def test_set(self) -> NDArray[np.float64]:
        """The difficulty of each item."""
        return self._normals(TEMPLATE_DIFFICULTY)

    def answers(self, difficulty: NDArray[np.float64], right: float) -> Right:
        """Which items a model with this true share of right answers has right."""
        noise = self._normals(TEMPLATE_NOISE)
        return np.asarray(
            math.sqrt(self.h) * difficulty + math.sqrt(1 - self.h) * noise
            < NORMAL.inv_cdf(min(max(right, 1e-6), 1 - 1e-6))
        )

    def _normals(self, of_template: float) -> NDArray[np.float64]:
        shared = self.random.standard_normal(len(self.task.sizes))[self.of_item]
        own = self.random.standard_normal(self.task.items)
        return np.asarray(math.sqrt(of_template) * shared + math.sqrt(1 - of_template) * own)

    def rule(self, ours: Right, theirs: Right, margin: float, alpha: float, first: int | None = None) -> str:
        """The gate's own outcome for a candidate against a reference, on the first items or on all."""
        sides = {"candidate": self._evaluated(ours, first), "champion": self._evaluated(theirs, first)}
        row = GateRow("non_inferiority", metric=METRIC.name, against="champion", margin=margin, alpha=ALPHA)
        return non_inferiority_rule(row, sides, alpha).outcome

    def better(self, ours: Right, theirs: Right, alpha: float) -> bool:
        """Whether the gate would record, at this level, that one is better than the other."""
        d = paired_differences(self._evaluated(ours, None), self._evaluated(theirs, None), 1 - ALPHA, "champion")
        return bool(d[METRIC.name]["value"] > 0 and d[METRIC.name]["p"] / 2 < alpha)

    def _evaluated(self, right: Right, first: int | None) -> Evaluated:
        items = [
            {"id": i, "template": t, "answer": "x", "metrics": {METRIC.name: int(r)}}
            for i, (t, r) in enumerate(zip(self.clusters[:first], right[:first].tolist(), strict=True))
        ]
        return Evaluated(
            items, {"metrics": [{**asdict(METRIC), "value": float(right[:first].mean()), "n": len(items)}]}
        )


def shared_difficulty(right: float, differ: float) -> float:
    """h at which two models with `right` differ on a share `differ` of the items, by bisection; both are right with
    probability E[Phi((z - sqrt(h) x) / sqrt(1 - h))^2]."""
    x, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    low, high = 0.0, 1 - 1e-9
    for _ in range(60):
        h = (low + high) / 2
        one = np.array([NORMAL.cdf((NORMAL.inv_cdf(right) - math.sqrt(h) * v) / math.sqrt(1 - h)) for v in x])
        differing = 2 * float((weights * one * (1 - one)).sum())
        low, high = (h, high) if differing > differ else (low, h)
    return (low + high) / 2


def planned_items(task: Task, margin: float, design_effect: float) -> int:
    """Items at which an equal candidate passes with probability 1 - BETA: the fewest at which one whose difference
    comes out z_beta standard errors too low still has its interval above the margin; times the design effect of the
    templates."""
    z = NORMAL.inv_cdf(1 - BETA)
    for n in range(20, 100_000):
        low = z * math.sqrt(task.differ * n)  # items lost more than gained
        discordant = task.differ * n
        if low < discordant:
            bound = paired_difference((discordant - low) / 2, (discordant + low) / 2, n, 1 - 2 * ALPHA).low
            if bound > -margin:
                return math.ceil(design_effect * n)
    raise RunFailedError(f"no number of items up to 100,000 decides a margin of {margin}")


def planned_for_two_looks(task: Task, planned: Task) -> Task:
    """As many templates as the stricter level of a second look needs for the same power, the first look being at the
    items of `task`."""
    share = task.items / planned.items
    z, z_power = (NORMAL.inv_cdf(1 - level) for level in (look_alpha(ALPHA, share), BETA))
    factor = ((z + z_power) / (NORMAL.inv_cdf(1 - ALPHA) + z_power)) ** 2
    return planned.grown(math.ceil(factor * planned.items))


def pairs(task: Task, margin: float, count: int, seed: int, *, look: int | None = None) -> dict[str, Any]:
    """Outcomes of `count` pairs at a true loss of the margin and of `count` at none, with the one-point rule's beside
    them. `look`: items of a first look, after which those that it does not decide are judged on all."""
    draws, outcomes, one_point, effects = Draws(task, seed), {}, {}, []
    for truth, loss in (("worse_by_margin", margin), ("equal", 0.0)):
        gate: Counter[str] = Counter()
        point = 0
        for _ in range(count):
            test = draws.test_set()
            champion, candidate = draws.answers(test, task.right), draws.answers(test, task.right - loss)
            gate[_judged(draws, candidate, champion, margin, look)] += 1
            point += float(candidate.mean()) >= float(champion.mean()) - ONE_POINT
            each = (candidate.astype(int) - champion.astype(int)).tolist()
            effects.append(task.items / effective_items(each, draws.clusters))
        outcomes[truth] = {name: round(gate[name] / count, 4) for name in ("pass", "inconclusive", "fail")}
        one_point[truth] = round(point / count, 4)
    return {
        "items": task.items,
        "first_look": look,
        "templates": len(task.sizes),
        "margin": margin,
        "differ": round(task.differ, 4),
        "design_effect": round(float(np.mean(effects)), 2),
        "false_promote": outcomes["worse_by_margin"]["pass"],
        "false_reject": round(1 - outcomes["equal"]["pass"], 4),
        "outcomes": outcomes,
        "one_point": {
            "false_promote": one_point["worse_by_margin"],
            "false_reject": round(1 - one_point["equal"], 4),
        },
    }


def _judged(draws: Draws, candidate: Right, champion: Right, margin: float, look: int | None) -> str:
    if look is None:
        return draws.rule(candidate, champion, margin, ALPHA)
    share = look / draws.task.items
    outcome = draws.rule(candidate, champion, margin, look_alpha(ALPHA, share), look)
    if outcome != "inconclusive":
        return outcome
    return draws.rule(candidate, champion, margin, look_alpha(ALPHA, share))


def chain(draws: Draws, margin: float, step: float, promotions: int, rule: str) -> tuple[float, int]:
    """The true loss after `promotions` candidates, each `step` worse than what serves when it comes, and how many were
    promoted. `rule`: `best` (the gate: champion and best release), `champion` (the champion alone), `one_point`."""
    test = draws.test_set()
    served, best = [(draws.task.right, draws.answers(test, draws.task.right))], 0
    for _ in range(promotions):
        true, champion = served[-1]
        candidate = draws.answers(test, true - step)
        if rule == "one_point":
            promoted = float(candidate.mean()) >= float(champion.mean()) - ONE_POINT
        else:
            promoted = draws.rule(candidate, champion, margin, ALPHA) == "pass"
            if promoted and rule == "best" and best < len(served) - 1:
                promoted = draws.rule(candidate, served[best][1], margin, trial_alpha(ALPHA, promotions)) == "pass"
        if promoted:
            served.append((true - step, candidate))
            if draws.better(candidate, served[best][1], trial_alpha(ALPHA, promotions)):
                best = len(served) - 1
    return draws.task.right - served[-1][0], len(served) - 1


def chains(task: Task, margin: float, step: float, count: int, seed: int, promotions: int = 50) -> dict[str, Any]:
    """The losses of `count` chains under each rule, on the same seeds."""
    figures: dict[str, Any] = {"candidates": promotions, "chains": count, "step": step, "margin": margin}
    for rule in ("best", "champion", "one_point"):
        made = [chain(Draws(task, seed + i), margin, step, promotions, rule) for i in range(count)]
        losses = sorted(loss for loss, _ in made)
        figures[rule] = {
            "loss_mean": round(float(np.mean(losses)), 4),
            "loss_p95": round(losses[math.ceil(0.95 * count) - 1], 4),
            "loss_max": round(losses[-1], 4),
            "beyond_margin": round(sum(loss > margin + 1e-9 for loss in losses) / count, 4),
            "promoted_mean": round(float(np.mean([n for _, n in made])), 1),
        }
    return figures


def task_of(candidate: Path, champion: Path) -> Task:
    """The task that two evaluations of the same items show, by their first binary metric. Raises DataError for what is
    no evaluation or has no binary metric in common."""
    sides = [read_side(path).quality for path in (candidate, champion)]
    names = [
        name
        for name, entry in entries(sides[0].metrics).items()
        if entry["kind"] == "binary" and all(side and name in entries(side.metrics) for side in sides)
    ]
    ours, theirs = (values_of(side.items, names[0]) for side in sides)
    sizes = Counter(clusters_of(sides[1].items))
    differ = sum(a != b for a, b in zip(ours, theirs, strict=True)) / len(ours)
    return Task(tuple(sizes.values()), sum(theirs) / len(theirs), differ)


def simulated(task: Task, margin: float, count: int, chain_count: int, seed: int) -> dict[str, Any]:
    """Every part of the benchmark."""
    small, large = task.grown(task.items // 4), task.grown(4 * task.items)
    now = pairs(task, margin, count, seed)
    say(
        f"{task.items} items: {now['false_promote']} promoted wrongly, {now['false_reject']} of equal ones not promoted"
    )
    planned = task.grown(max(task.items + 1, planned_items(task, margin, now["design_effect"])))
    return {
        "alpha": ALPHA,
        "beta": BETA,
        "pairs": count,
        "now": now,
        "quarter": pairs(small, margin, count, seed + 3),
        "fourfold": pairs(large, margin / 2, count, seed + 4),
        "planned": pairs(planned, margin, count, seed + 1),
        "two_looks": pairs(planned_for_two_looks(task, planned), margin, count, seed + 2, look=task.items),
        "chains": [chains(task, margin, step, chain_count, seed) for step in (0.01, 0.02, 0.034)]
        if chain_count
        else [],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the simulation and print its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="not written to: nothing is left behind")
    parser.add_argument("--items", type=Path, nargs=2, help="directories of two evaluations")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--margin", type=float, default=0.06)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    task = task_of(*args.items) if args.items else EMBEDDED
    emit("gate_simulation", simulated(task, args.margin, args.pairs, args.chains, args.seed))


if __name__ == "__main__":
    main()
