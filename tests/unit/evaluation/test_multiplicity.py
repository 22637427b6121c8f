"""Families of tests: Holm against hand-made cases, and the level that trials share."""

from __future__ import annotations

from math import sqrt
from random import Random
from statistics import NormalDist

import pytest

from slipway.errors import DataError
from slipway.evaluation.multiplicity import holm, look_alpha, trial_alpha


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([], []),
        ([0.05], [True]),
        ([0.051], [False]),
        ([0.01, 0.04, 0.03], [True, False, False]),  # 0.01 <= 0.05/3, then 0.03 > 0.05/2 ends it
        ([0.03, 0.01, 0.02], [True, True, True]),  # 0.01 <= 0.05/3, 0.02 <= 0.05/2, 0.03 <= 0.05
        ([0.02, 0.02, 0.02], [False, False, False]),
        ([0.5, 0.0], [False, True]),
    ],
)
def test_holm_steps_down_and_answers_in_the_order_given(p_values: list[float], rejected: list[bool]) -> None:
    assert holm(p_values, 0.05) == rejected


def test_a_true_family_is_wrongly_rejected_no_more_often_than_the_level() -> None:
    random = Random(1)
    wrong = sum(any(holm([random.random() for _ in range(5)], 0.05)) for _ in range(4000))
    assert 0.03 < wrong / 4000 < 0.065  # sd 0.0034; uncorrected it is 0.226


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(DataError, match="p-value"):
        holm([0.2, p], 0.05)


def test_trials_share_one_level() -> None:
    assert trial_alpha(0.05, 1) == 0.025, "half for a slip, half for a wrong best release"
    assert 2 * 50 * trial_alpha(0.05, 50) == pytest.approx(0.05)
    with pytest.raises(DataError, match="1 or more"):
        trial_alpha(0.05, 0)


@pytest.mark.parametrize("correlation", [0.0, sqrt(0.5), sqrt(0.9), 1.0])
def test_both_looks_together_err_no_more_often_than_one(correlation: float) -> None:
    bound = NormalDist().inv_cdf(1 - look_alpha(0.05, 0.5))
    random, wrong, n = Random(2), 0, 40_000
    for _ in range(n):
        one = random.gauss(0, 1)
        two = correlation * one + sqrt(1 - correlation**2) * random.gauss(0, 1)
        wrong += one >= bound or two >= bound
    assert 0.025 - 0.0032 < wrong / n < 0.05 + 0.0044  # four standard errors


def test_a_first_look_at_everything_is_the_only_one() -> None:
    assert look_alpha(0.05, 1.0) == 0.05


@pytest.mark.parametrize("share", [0.0, 1.1, -0.1])
def test_what_is_no_look_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="look"):
        look_alpha(0.05, share)
