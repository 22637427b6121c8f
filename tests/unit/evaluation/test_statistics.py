from itertools import product
from math import comb, log, sqrt
from random import Random

import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm

from slipway.errors import DataError
from slipway.evaluation.statistics import (
    items_to_decide,
    mcnemar_exact,
    non_inferiority_p,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Stat. Med. 17:857-872, table I, method 3."""
    assert wilson(successes, n, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_exact_at_the_ends() -> None:
    low, high = wilson(7, 50, 0.9)
    assert wilson(43, 50, 0.9) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(DataError, match=f"{successes} of {n} items"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "confidence", "low", "high"),
    [
        (9, 3, 32, 0.95, -0.027, 0.390),  # Tango (1998), table IV: cross-over study of cough
        (0, 1, 44, 0.90, -0.096, 0.037),  # Tango (1998): soft contact lenses, one-sided 95 %
        (1, 7, 21, 0.95, -0.517, -0.026),  # Fagerland, Lydersen, Laake (2014), Stat. Med. 33:2850-2875: airway study
    ],
)
def test_tango_gives_the_published_intervals(
    gained: int, lost: int, n: int, confidence: float, low: float, high: float
) -> None:
    difference = paired_difference(gained, lost, n, confidence)
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize(
    ("gained", "lost", "n"),
    [(0, 0, 30), (5, 0, 30), (0, 12, 40), (9, 3, 32), (20, 22, 42), (40, 20, 160), (2, 300, 1000)],
)
def test_tango_agrees_with_the_score_equation_solved_by_brute_force(gained: int, lost: int, n: int) -> None:
    """The restricted likelihood is maximised numerically, not by the closed-form quadratic."""

    def score(d: float) -> float:
        def minus_log_likelihood(q: float) -> float:
            cells = ((gained, q + d), (lost, q), (n - gained - lost, 1 - 2 * q - d))
            return -sum(k * log(max(p, 1e-300)) for k, p in cells if k)

        q = minimize_scalar(
            minus_log_likelihood, bounds=(max(0.0, -d), (1 - d) / 2), method="bounded", options={"xatol": 1e-13}
        ).x
        return (gained - lost - n * d) / sqrt(n * (2 * q + d * (1 - d)))

    difference = paired_difference(gained, lost, n, 0.95)
    z = norm.ppf(0.975)
    assert difference.low == pytest.approx(brentq(lambda d: score(d) - z, -1 + 1e-6, difference.value - 1e-7), abs=2e-5)
    assert difference.high == pytest.approx(brentq(lambda d: score(d) + z, difference.value + 1e-7, 1 - 1e-6), abs=2e-5)


def test_tango_is_antisymmetric_and_reaches_the_ends() -> None:
    there, back = paired_difference(9, 3, 32, 0.9), paired_difference(3, 9, 32, 0.9)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert paired_difference(10, 0, 10).high == pytest.approx(1.0)
    assert paired_difference(0, 10, 10).low == pytest.approx(-1.0)


@pytest.mark.parametrize(("p_gained", "p_lost"), [(0.02, 0.02), (0.03, 0.11), (0.20, 0.05), (0.30, 0.30)])
def test_tango_covers_at_its_level(p_gained: float, p_lost: float) -> None:
    """Exact coverage by enumerating the trinomial, 60 items, 90 %: within 3 points of the level."""
    n, rest = 60, 1 - p_gained - p_lost
    covered = 0.0
    for gained, lost in product(range(n + 1), repeat=2):
        if gained + lost > n:
            continue
        chance = (
            comb(n, gained) * comb(n - gained, lost) * p_gained**gained * p_lost**lost * rest ** (n - gained - lost)
        )
        if chance > 1e-7:
            difference = paired_difference(gained, lost, n, 0.90)
            covered += chance * (difference.low <= p_gained - p_lost <= difference.high)
    assert 0.87 <= covered <= 0.97


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 0), (3, 3, 5), (-1, 1, 5)])
def test_tango_refuses_impossible_counts(gained: int, lost: int, n: int) -> None:
    with pytest.raises(DataError):
        paired_difference(gained, lost, n)


@pytest.mark.parametrize(("gained", "lost"), [(1, 7), (0, 0), (12, 12), (30, 11)])
def test_mcnemar_agrees_with_the_binomial_test(gained: int, lost: int) -> None:
    want = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(want)


def test_mcnemar_gives_the_published_value() -> None:
    """Fagerland, Lydersen, Laake (2013), BMC Med. Res. Methodol. 13:91: airway study, exact conditional test."""
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)


@pytest.mark.parametrize(("gained", "lost", "margin"), [(2, 4, 0.08), (1, 5, 0.05)])
def test_the_items_asked_for_decide_about_as_often_as_promised(gained: int, lost: int, margin: float) -> None:
    """400 runs of that many items with the observed shares, fixed seed."""
    n = items_to_decide(gained, lost, 100, margin, 0.95, 0.8)
    assert n is not None
    random, decided = Random(17), 0
    for _ in range(400):
        draws = random.choices((1, -1, 0), weights=(gained, lost, 100 - gained - lost), k=n)
        decided += paired_difference(draws.count(1), draws.count(-1), n, 0.90).low > -margin
    assert 0.70 <= decided / 400 <= 0.95


def test_a_difference_on_the_margin_is_never_decided() -> None:
    assert items_to_decide(0, 5, 100, 0.05) is None


def test_without_discordance_the_items_asked_for_are_just_enough() -> None:
    n = items_to_decide(0, 0, 20, 0.08)
    assert n is not None
    at_least = next(k for k in range(1, 1000) if paired_difference(0, 0, k, 0.90).low > -0.08)
    assert n >= at_least
    assert paired_difference(0, 0, n, 0.90).low > -0.08 >= paired_difference(0, 0, at_least - 1, 0.90).low


def test_more_items_are_asked_for_than_did_not_decide() -> None:
    undecided = [
        (g, lost)
        for g in range(4)
        for lost in range(8)
        if paired_difference(g, lost, 60, 0.90).low <= -0.08 <= paired_difference(g, lost, 60, 0.90).high
    ]
    assert len(undecided) > 5
    for gained, lost in undecided:
        needed = items_to_decide(gained, lost, 60, 0.08)
        assert needed is None or needed > 60


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(0, 0, 40), (3, 9, 80), (12, 20, 238), (0, 5, 31), (7.5, 2.25, 60.5)]
)
@pytest.mark.parametrize("margin", [0.02, 0.06, 0.1])
def test_the_p_value_and_the_interval_decide_alike(gained: float, lost: float, n: float, margin: float) -> None:
    p = non_inferiority_p(gained, lost, n, margin)
    for alpha in (0.01, 0.05, 0.2, p - 1e-6, p + 1e-6):
        if 1e-9 < alpha < 0.5:
            low = paired_difference(gained, lost, n, 1 - 2 * alpha).low
            assert (p < alpha) == (low > -margin)
