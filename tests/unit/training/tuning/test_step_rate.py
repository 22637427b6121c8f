"""Rates with their bounds, against figures worked out by hand."""

import pytest

from slipway.training.tuning.step_rate import clearly_slower, rate


def test_rates_are_bounded_and_two_agreeing_steps_do_not_prove_much() -> None:
    measured = rate([1000, 1000], [1.0, 1.0])
    assert (measured.mean, measured.steps) == (1000.0, 2)
    assert measured.low == pytest.approx(1000 - 2 * 20 / 2**0.5)
    assert not clearly_slower([1000], [1.0], 1e9)
    assert clearly_slower([1000, 1000], [1.0, 1.0], 1029.0)
    assert not clearly_slower([1000, 1000], [1.0, 1.0], 1028.0)


def test_the_mean_is_of_all_tokens_over_all_seconds_not_of_the_steps_rates():
    measured = rate([100, 300], [1.0, 1.0])
    assert measured.mean == 200.0
    spread = 141.4213562  # standard deviation of 100 and 300
    assert measured.high - measured.mean == pytest.approx(2 * spread / 2**0.5)
    assert rate([100, 100], [1.0, 3.0]).mean == 50.0


def test_one_step_has_bounds_too():
    measured = rate([500], [0.5])
    assert (measured.low, measured.mean, measured.high) == (960.0, 1000.0, 1040.0)
