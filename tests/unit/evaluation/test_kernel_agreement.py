"""The statistics by hand, their limits, and what a failure names."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from scipy.stats import t

from slipway.errors import EngineError
from slipway.evaluation.kernel_agreement import (
    FALSE_ALARM,
    GROWTH,
    LEAST_THIRD,
    RATIO,
    T_QUANTILE,
    WINDOW,
    AnswerDifference,
    judge_agreement,
    likely_cause,
    require_agreement,
)


def answer(differences: list[float | None], rounding: float = 0.01, value: float = -1.0) -> AnswerDifference:
    """An answer whose tokens differ so, where rounding moves each by `rounding`."""
    engine = [None if d is None else value + d for d in differences]
    n = len(differences)
    return AnswerDifference(engine, [value] * n, [value - rounding] * n, [True] * n)


def test_ratio_and_growth_by_hand() -> None:
    one = judge_agreement(
        [answer([0.01, -0.01, 0.02, 0.02, -0.03, 0.03]), answer([0.01, None, 0.02, 0.02, 0.03, 0.03])]
    )
    assert one.ratio == pytest.approx((0.06 + 0.16 + 0.01) / 11 / 0.01)
    assert one.growth == pytest.approx(3)
    assert (one.tokens, one.without_probability, one.answers, one.greedy) == (12, 1, 2, 1.0)
    assert one.growth_limit is None
    assert one.outcome == "pass"


def test_limits_are_prediction_limits_of_the_measured_spread() -> None:
    for spread in (RATIO, GROWTH):
        assert pytest.approx(t.ppf(1 - FALSE_ALARM, spread.n - 1), abs=1e-3) == T_QUANTILE
        expected = math.exp(spread.mean + T_QUANTILE * spread.sd * math.sqrt(1 + 1 / spread.n))
        assert spread.limit == pytest.approx(expected)


def test_healthy_noise_passes_and_a_shift_of_all_tokens_fails() -> None:
    draw = random.Random(0)
    noise = [answer([draw.gauss(0, 0.0125) for _ in range(200)]) for _ in range(4)]
    healthy = judge_agreement(noise)
    require_agreement(healthy)
    assert healthy.first_position is None
    wrong = judge_agreement([answer([0.01 * RATIO.limit * 1.1] * 200)])
    assert (wrong.outcome, wrong.first_position) == ("fail", 0)
    with pytest.raises(EngineError, match=r"ratio 3\.\d+.*from token 0 on") as error:
        require_agreement(wrong)
    assert "scales" in str(error.value)


def test_a_fault_that_comes_with_length_is_seen_before_it_shows_in_the_mean() -> None:
    late = judge_agreement([answer([0.004] * 200 + [0.004 * GROWTH.limit * 1.1] * 100)] * 3)
    assert late.ratio < RATIO.limit and late.growth_limit is not None and late.growth > late.growth_limit
    with pytest.raises(EngineError, match="growth") as error:
        require_agreement(late)
    assert "it comes with length" in str(error.value)


def test_the_first_position_is_where_the_moving_mean_crosses_the_limit() -> None:
    one = judge_agreement([answer([0.001] * 300 + [1.0] * 300)] * 2)
    assert one.first_position is not None
    assert 300 - WINDOW < one.first_position <= 300
    assert "it comes with length" in likely_cause(one)


def test_growth_is_not_judged_on_few_tokens() -> None:
    few, enough = 3 * LEAST_THIRD - 3, 3 * LEAST_THIRD
    limits = [judge_agreement([answer([0.001] * (2 * n // 3) + [0.02] * (n // 3))]).growth_limit for n in (few, enough)]
    assert limits == [None, GROWTH.limit]


def test_a_model_that_is_more_sensitive_to_rounding_may_differ_more() -> None:
    ratios = [judge_agreement([answer([10.0**-k] * 30, rounding=10.0**-k)]).ratio for k in (1, 2, 3)]
    assert all(a == pytest.approx(b) for a, b in pairwise(ratios))


def test_kernels_that_round_nothing_may_differ_by_what_sums_do() -> None:
    assert judge_agreement([answer([1e-6] * 30, rounding=0.0)]).outcome == "pass"
    assert judge_agreement([answer([1e-3] * 30, rounding=0.0)]).outcome == "fail"


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_log_probabilities_that_are_no_numbers_are_an_error(value: float) -> None:
    with pytest.raises(EngineError, match="of token 2"):
        judge_agreement([answer([0.0, 0.0, value])])


def test_an_engine_without_any_log_probability_is_an_error() -> None:
    with pytest.raises(EngineError, match="of 0 of 30 tokens"):
        judge_agreement([answer([None] * 30)])


def test_figures_are_data() -> None:
    figures = judge_agreement([answer([0.01] * 30)]).figures()
    assert figures["ratio"] == 1.0 and figures["outcome"] == "pass" and figures["growth_limit"] is None
