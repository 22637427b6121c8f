"""Levels of a test that may be looked at twice: on some test rows first, on all where that decided nothing.

Looking twice at one level alpha errs more often than alpha. With t the share of the rows at the first look, the first
spends a part of alpha and the second the rest,

    alpha_1 = alpha ln(1 + (e - 1) t)                                     spending function of Pocock's type
    alpha_2 : P(Z_1 < z_1, Z_2 >= z_2) = alpha - alpha_1,  corr(Z_1, Z_2) = sqrt(t)

where z_k is the normal quantile of 1 - alpha_k. Lan, DeMets (1983), Biometrika 70:659-663, which needs the number of
rows to be known before the first look, and it is: the test split's. Pocock's type spends early, because a first look
that decides saves the second evaluation. The rows of the first look are among those of the second.
"""

from __future__ import annotations

from math import e, exp, log, pi, sqrt
from statistics import NormalDist

from slipway.errors import DataError

_NORMAL = NormalDist()
_STEPS = 400  # of Simpson's rule: the integrand is smooth, its error is below 1e-10


def look_alpha(alpha: float, share: float, look: int) -> float:
    """One-sided level of look 1 or 2, where look 1 is at `share` of the rows; `alpha` itself where that is all of them.

    Raises DataError for a share outside 0..1 and a look that is none of both.
    """
    if not 0 < share <= 1 or look not in (1, 2):
        raise DataError(
            "look at the test rows",
            f"look {look} at a share of {share}",
            "look 1 or 2, 0 < share <= 1",
            "report this: the gate computed it",
        )
    if share == 1:
        return alpha
    first = alpha * log(1 + (e - 1) * share)
    return first if look == 1 else _second(alpha, first, sqrt(share))


def _second(alpha: float, first: float, correlation: float) -> float:
    """alpha_2, by bisection of z_2: what is spent falls as z_2 rises."""
    bound, low, high = _NORMAL.inv_cdf(1 - first), 0.0, 9.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _spent(bound, middle, correlation) > alpha - first else (low, middle)
    return 1 - _NORMAL.cdf((low + high) / 2)


def _spent(first: float, second: float, correlation: float) -> float:
    """P(Z_1 < first, Z_2 >= second) of two standard normals, by Simpson's rule over Z_1 from -9."""
    rest = sqrt(1 - correlation * correlation)
    step = (first + 9) / _STEPS
    total = 0.0
    for i in range(_STEPS + 1):
        x = -9 + i * step
        weight = 1 if i in (0, _STEPS) else 4 if i % 2 else 2
        tail = 1 - _NORMAL.cdf((second - correlation * x) / rest)
        total += weight * exp(-x * x / 2) / sqrt(2 * pi) * tail
    return total * step / 3
