"""The sequential test of a mirror canary over simulated traffic: how often it is wrong when it is looked at after every
pair, and how many pairs it takes; the one-look test on the same draws beside it.

    python -m benchmarks.canary --runs 2000

Each scenario draws pairs: wins and losses with given shares, else ties. `better`, `worse`, `no_difference`: shares of
runs that end so within `most` pairs; `pairs`: mean and median number at the end. `peeking`: shares of runs in which the
one-look test (McNemar's z at 5%, after each pair from the 20th on) said "different" at some time.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.measure import emit
from slipway.deployment.canary.sequential_test import PairCounts, outcome_of

MARGIN, ALPHA = 0.02, 0.05
# wins, losses: shares of all pairs
SCENARIOS = {
    "equal, 4% differ": (0.02, 0.02),
    "equal, 20% differ": (0.10, 0.10),
    "worse by the margin, 4% differ": (0.01, 0.03),
    "worse by the margin, 20% differ": (0.09, 0.11),
    "worse by 4 points, 10% differ": (0.03, 0.07),
    "better by 2 points, 4% differ": (0.03, 0.01),
    "better by 10 points, 30% differ": (0.20, 0.10),
}


def main() -> None:
    """Run every scenario and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="as of every benchmark; nothing is written")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--most", type=int, default=3000, help="pairs of a run")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    results = {name: scenario(draw, wins, losses, args.runs, args.most) for name, (wins, losses) in SCENARIOS.items()}
    emit("canary", {"margin": MARGIN, "alpha": ALPHA, "runs": args.runs, "most": args.most, "scenarios": results})


def scenario(draw: random.Random, wins: float, losses: float, runs: int, most: int) -> dict[str, Any]:
    """Outcomes of `runs` canaries on traffic of this kind."""
    outcomes, lengths, peeked = Counter[str](), list[int](), 0
    for _ in range(runs):
        course = draw.choices((1, 0, -1), (wins, 1 - wins - losses, losses), k=most)
        outcome, pairs = sequential(course)
        outcomes[outcome] += 1
        lengths.append(pairs)
        peeked += peeks(course)
    shares = {name: round(outcomes[name] / runs, 4) for name in ("better", "worse", "no_difference", "not_enough")}
    pairs_taken = {"mean": round(statistics.mean(lengths)), "median": round(statistics.median(lengths))}
    return {**shares, "pairs": pairs_taken, "peeking": round(peeked / runs, 4)}


def sequential(course: list[int]) -> tuple[str, int]:
    """The outcome of the test on these pairs and after how many. A tie moves no hypothesis but the inferior one, and
    that slowly: it is looked at after each pair that differs, and after every tenth."""
    counts = PairCounts()
    for at, value in enumerate(course, 1):
        counts = counts.add(value)
        if value or at % 10 == 0:
            outcome = outcome_of(counts, MARGIN, ALPHA)
            if outcome != "not_enough":
                return outcome, at
    return "not_enough", len(course)


def peeks(course: list[int]) -> bool:
    """Whether a two-sided test at 5% that allows one look says "different" at any of its looks."""
    wins = losses = 0
    for at, value in enumerate(course, 1):
        wins, losses = wins + (value > 0), losses + (value < 0)
        if at >= 20 and wins + losses and abs(wins - losses) / sqrt(wins + losses) > 1.96:
            return True
    return False


if __name__ == "__main__":
    main()
