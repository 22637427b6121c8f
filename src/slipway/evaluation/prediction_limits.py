"""Limits for counts of a sound engine's next answers: what it exceeds with a small probability only.

Two cases. `most_again`: nothing is known but how many of earlier answers had the same form. `most_unequal`: each answer
has its own chance, at most, to come out otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma

FALSE_ALARM = 0.001


def most_again(count: int, of: int, now: int, alarm: float = FALSE_ALARM) -> int:
    """Most of `now` answers that have a form which `count` of `of` recorded ones had: the upper prediction limit at
    `alarm`, which keeps its level whatever the true share is (beta-binomial with Beta(count + 1, of - count);
    Thatcher (1964), J. R. Stat. Soc. B 26, 176-192)."""
    if count >= of:
        return now
    a, b, above = count + 1, of - count, 0.0
    for k in range(now, 0, -1):
        above += exp(_log_choose(now, k) + _log_beta(a + k, b + now - k) - _log_beta(a, b))
        if above > alarm:
            return k
    return 0


def most_unequal(chances: Sequence[float]) -> int:
    """The smallest number that a sum of independent Bernoulli variables exceeds with probability FALSE_ALARM at most;
    the distribution by convolution."""
    distribution = [1.0]
    for chance in chances:
        longer = [*distribution, 0.0]
        for k in range(len(distribution), 0, -1):
            longer[k] = longer[k] * (1 - chance) + distribution[k - 1] * chance
        longer[0] *= 1 - chance
        distribution = longer
    above = 0.0
    for k in range(len(chances), 0, -1):
        above += distribution[k]
        if above > FALSE_ALARM:
            return k
    return 0


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
