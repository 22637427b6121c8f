from __future__ import annotations

import random
from itertools import product
from math import exp, log, prod

import pytest

from slipway.deployment.canary.sequential_test import BETS, PairCounts, log_capital, look
from slipway.errors import ConfigError


def counted(values: list[int]) -> PairCounts:
    counts = PairCounts()
    for value in values:
        counts = counts.add(value)
    return counts


def test_the_capital_is_the_mean_of_the_products() -> None:
    values = [1, 0, 0, -1, 1, 1, 0, -1, 1]
    for m in (0.0, -0.05, 0.1):
        bets = [share / (1 + m) for share in BETS]
        direct = sum(prod(1 + bet * (x - m) for x in values) for bet in bets) / len(bets)
        assert log_capital(counted(values), m) == pytest.approx(log(direct))


@pytest.mark.parametrize("m", [0.0, -0.1, 0.2])
def test_under_the_hypothesis_the_capital_is_1_on_average_and_never_negative(m: float) -> None:
    """Exactly, over every course of five pairs with mean m: a fair game."""
    chances = {1: 0.3 + m / 2, 0: 0.4, -1: 0.3 - m / 2}
    courses = list(product((1, 0, -1), repeat=5))
    total = sum(prod(chances[x] for x in course) * exp(log_capital(counted(list(course)), m)) for course in courses)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        (PairCounts(), "not_enough"),
        (PairCounts(3, 0, 0), "not_enough"),
        (PairCounts(14, 5, 1), "better"),
        (PairCounts(1, 5, 14), "worse"),
        (PairCounts(10, 1000, 10), "no_difference"),
        (PairCounts(0, 400, 0), "no_difference"),
        (PairCounts(30, 40, 30), "not_enough"),
    ],
)
def test_outcomes(counts: PairCounts, outcome: str) -> None:
    looked = look(counts, margin=0.02)
    assert looked.outcome == outcome and looked.document()["pairs"] == counts.pairs


def test_wins_and_losses_exchange_the_two_sides() -> None:
    counts = PairCounts(20, 9, 4)
    one, other = look(counts, margin=0.05), look(counts.turned(), margin=0.05)
    assert (one.outcome, other.outcome) == ("better", "worse")
    assert one.against_no_better == other.against_no_worse and one.difference == -other.difference


def test_what_is_missing_would_decide() -> None:
    looked = look(PairCounts(5, 100, 5), margin=0.02)
    assert looked.outcome == "not_enough" and looked.more is not None
    factor = (110 + looked.more) / 110
    assert (
        look(PairCounts(round(5 * factor), round(100 * factor), round(5 * factor)), margin=0.02).outcome != "not_enough"
    )
    assert look(PairCounts(0, 400, 0), margin=0.02).more is None


def test_a_sample_of_courses_looked_at_after_every_pair_keeps_alpha() -> None:
    """The whole series is benchmarks/canary.py. Here: no difference, 100 courses of 300 pairs; a test at 5% that is
    looked at once would be wrong in one of three."""
    draw, wrong = random.Random(5), 0
    for _ in range(100):
        counts = PairCounts()
        for _ in range(300):
            counts = counts.add(draw.choices((1, 0, -1), (0.1, 0.8, 0.1))[0])
            if log_capital(counts, 0.0) >= log(2 / 0.05) or log_capital(counts.turned(), 0.0) >= log(2 / 0.05):
                wrong += 1
                break
    assert wrong <= 11  # 5 at most on average; P(more than 11) < 0.01


@pytest.mark.parametrize(("margin", "alpha"), [(0, 0.05), (1, 0.05), (0.02, 0), (0.02, 1)])
def test_levels_outside_of_0_to_1_are_refused(margin: float, alpha: float) -> None:
    with pytest.raises(ConfigError, match="canary"):
        look(PairCounts(), margin=margin, alpha=alpha)
