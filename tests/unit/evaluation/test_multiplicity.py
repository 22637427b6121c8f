"""Families of tests: Holm against hand-made cases, and the level that trials share."""

from __future__ import annotations

from random import Random

import pytest

from slipway.errors import DataError
from slipway.evaluation.multiplicity import holm, trial_alpha


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
    assert trial_alpha(0.05, 1) == 0.05
    assert 50 * trial_alpha(0.05, 50) == pytest.approx(0.05)
    with pytest.raises(DataError, match="1 or more"):
        trial_alpha(0.05, 0)
