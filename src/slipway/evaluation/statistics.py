"""Intervals and tests for shares of test items: one sample, and two systems scored on the same items.

A system's per-item score is a Bernoulli variable; two systems answer the same items, so their difference is judged in
pairs. Only the discordant pairs speak:

    gained = items the candidate has right and the reference wrong
    lost   = items the candidate has wrong and the reference right
    d      = (gained - lost) / n

Shares are fractions of 1, never percent. Items made from one template are alike: `clusters` turns them into an
effective number of items, which these formulas take as fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, comb, sqrt
from statistics import NormalDist

from slipway.errors import DataError


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval of a share.

    Wilson (1927), JASA 22:209-212; without continuity correction, method 3 of Newcombe (1998), Stat. Med. 17:857-872.
    Both may be fractions: an effective number of items, see `clusters`. Raises DataError when `n` is not positive or
    `successes` is outside 0..n.
    """
    _check_counts("successes", successes, n)
    z = _z(1 - (1 - confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    # the ends are exact at 0 and n; rounding would leave 1e-17
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


@dataclass(frozen=True)
class Difference:
    """Candidate minus reference on the same items: point estimate, two-sided interval, and the counts behind them."""

    value: float
    low: float
    high: float
    gained: float
    lost: float
    n: float


def paired_difference(gained: float, lost: float, n: float, confidence: float = 0.95) -> Difference:
    """Difference of two paired shares with Tango's two-sided score interval.

    The interval holds every d whose score statistic is within the normal quantile z: |T(d)| <= z,

        T(d) = (gained - lost - n d) / sqrt(n (2 q + d (1 - d)))

    with q the maximum-likelihood share of lost items under difference d. Tango (1998), Stat. Med. 17:891-908. It keeps
    its level where the Wald interval collapses: no discordant pair, or shares near 1.
    Raises DataError when the counts do not fit into `n`.
    """
    _check_counts("gained and lost items", gained + lost, n)
    _check_counts("gained items", gained, n)
    _check_counts("lost items", lost, n)
    z = _z(1 - (1 - confidence) / 2)
    value = (gained - lost) / n
    low = _falls_to(lambda d: _tango(d, gained, lost, n), z, -1.0, value)
    high = _falls_to(lambda d: _tango(d, gained, lost, n), -z, value, 1.0)
    return Difference(value, low, high, gained, lost, n)


def _tango(d: float, gained: float, lost: float, n: float) -> float:
    """T(d); its sign alone where the variance vanishes (d = -1 or 1)."""
    b = (2 * n - gained + lost) * d - (gained + lost)
    c = -lost * d * (1 - d)
    q = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    off = gained - lost - n * d
    if variance <= 0:
        return 0.0 if off == 0 else off * float("inf")
    return off / sqrt(variance)


def _falls_to(f: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where the falling function `f` crosses `level` in [low, high], by bisection to 1e-12; an end when it does not
    cross."""
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > level else (low, middle)
    return (low + high) / 2


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact conditional p-value that both systems are equally good.

    Given the discordant pairs, gained ~ Binomial(gained + lost, 1/2): McNemar (1947), Psychometrika 12:153-157, exact
    form as in Fagerland, Lydersen, Laake (2013), BMC Med. Res. Methodol. 13:91. 1.0 when no pair is discordant.
    """
    n = gained + lost
    tail = sum(comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << n))


def non_inferiority_p(gained: float, lost: float, n: float, margin: float) -> float:
    """One-sided p-value of "worse by `margin` or more": small where the candidate is no worse.

    1 - Phi(T(-margin)) with the score statistic of `paired_difference`, so that p < alpha exactly where the interval
    whose ends are one-sided at 1 - alpha lies above -margin. 1 - p is the p-value of the opposite, "no worse".
    """
    return 1 - NormalDist().cdf(_tango(-margin, gained, lost, n))


def items_to_decide(
    gained: float, lost: float, n: float, margin: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Items at which a non-inferiority test with one-sided level `confidence` decides with probability `power`,
    if discordance and difference stay as observed; None when the difference sits on the margin and no number would do.

        n = (z_confidence + z_power)^2 (psi - d^2) / (d + margin)^2,   psi = share of discordant items

    the normal approximation of Lu, Bean (1995), Stat. Med. 14:1831-1839, with half an item added to each discordant
    cell so that a small sample without discordance does not promise certainty; never less than a sample without any
    discordance needs, and always more than the items that did not decide.
    """
    needed = items_needed((gained + lost + 1) / (n + 1), (gained - lost) / n, margin, confidence, power)
    return None if needed is None else max(needed, ceil(n + 1))


def items_needed(
    discordant: float, difference: float, margin: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """`items_to_decide` by shares instead of counts, before anything was observed: `discordant` (psi above) and the
    `difference` in the direction that is better."""
    distance = difference + margin
    if abs(distance) < 1e-9:
        return None
    z = _z(confidence)
    at_least = z * z * (1 - margin) / margin
    return ceil(max(at_least, (z + _z(power)) ** 2 * (discordant - difference**2) / distance**2))


def _check_counts(name: str, count: float, n: float) -> None:
    if n <= 0 or not 0 <= count <= n:
        raise DataError(
            f"count of {name}",
            f"{count} of {n} items",
            "0 <= count <= items, and at least one item",
            "check the test split",
        )


def _z(level: float) -> float:
    return NormalDist().inv_cdf(level)
