"""Against exact sums by other ways."""

from __future__ import annotations

import random
from math import comb

import pytest

from slipway.evaluation.prediction_limits import FALSE_ALARM, most_again, most_unequal


def thatcher(count: int, of: int, now: int, alarm: float) -> int:
    """The smallest limit by the hypergeometric form: x of n and y of m together are a draw without replacement; the
    limit is where P(at most x in the first n | x + y) falls to `alarm` (Thatcher (1964), section 2)."""
    for limit in range(now + 1):
        total = count + limit + 1
        tail = sum(comb(of, i) * comb(now, total - i) for i in range(count + 1) if 0 <= total - i <= now)
        if limit + 1 > now or tail / comb(of + now, total) <= alarm:
            return limit
    return now


@pytest.mark.parametrize(("count", "of", "now"), [(0, 24, 12), (0, 6, 6), (1, 24, 12), (5, 40, 20), (12, 24, 12)])
@pytest.mark.parametrize("alarm", [0.001, 0.01])
def test_counts_seen_again_by_the_hypergeometric_form(count: int, of: int, now: int, alarm: float) -> None:
    assert most_again(count, of, now, alarm) == thatcher(count, of, now, alarm)


def test_the_level_is_kept_whatever_the_true_share_is() -> None:
    """The probability of more than the limit, summed over both draws: no sampling."""
    for share in (0.01, 0.05, 0.2, 0.5, 0.9):
        chance = [[comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)] for n in (24, 12)]
        alarm = sum(chance[0][x] * sum(chance[1][most_again(x, 24, 12) + 1 :]) for x in range(25))
        assert alarm <= FALSE_ALARM


def test_what_all_had_all_may_have_again() -> None:
    assert most_again(4, 4, 9) == 9


def test_unequal_chances_against_the_binomial_and_a_sample() -> None:
    tail = [sum(comb(10, k) * 0.2**k * 0.8 ** (10 - k) for k in range(j + 1, 11)) for j in range(11)]
    assert most_unequal([0.2] * 10) == next(j for j in range(11) if tail[j] <= FALSE_ALARM)
    assert most_unequal([0.0] * 5) == 0 and most_unequal([1.0] * 5) == 5 and most_unequal([]) == 0
    draw, chances = random.Random(1), [0.01, 0.3, 0.6, 0.05, 0.2, 0.9]
    sums = sorted(sum(draw.random() < p for p in chances) for _ in range(20000))
    assert most_unequal(chances) in (sums[-20], sums[-20] + 1, sums[-20] - 1)
