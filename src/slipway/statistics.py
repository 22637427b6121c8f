"""Intervals and tests for shares of test items: one sample, and two systems scored on the same items.

A system's per-item score is a Bernoulli variable; two systems answer the same items, so their difference is judged in
pairs. Only the discordant pairs speak:

    gained = items the candidate has right and the reference wrong
    lost   = items the candidate has wrong and the reference right
    d      = (gained - lost) / n

Shares are fractions of 1, never percent. Left out: clustering. Items made from one template are alike, so intervals over
items are somewhat too narrow; a margin should be generous enough to absorb that.
"""

from __future__ import annotations

from math import comb, sqrt
from statistics import NormalDist

from slipway.errors import DataError


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval of a share.

    Wilson (1927), JASA 22:209-212; without continuity correction, method 3 of Newcombe (1998), Stat. Med. 17:857-872.
    Raises DataError when `n` is not positive or `successes` is outside 0..n.
    """
    _check_counts("successes", successes, n)
    z = _z(1 - (1 - confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    # the ends are exact at 0 and n; rounding would leave 1e-17
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


def _check_counts(name: str, count: int, n: int) -> None:
    if n <= 0 or not 0 <= count <= n:
        raise DataError(f"count of {name}", f"{count} of {n} items", "0 <= count <= items, and at least one item", "check the test split")


def _z(level: float) -> float:
    return NormalDist().inv_cdf(level)
