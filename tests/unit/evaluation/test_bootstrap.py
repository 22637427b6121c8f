"""The bootstrap: intervals that hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from slipway.evaluation.bootstrap import bootstrap_mean, paired_bootstrap, resampling_unit


def test_a_difference_by_hand() -> None:
    differences = np.array([[0.5, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.5, 0.0]])
    one, none = paired_bootstrap(differences, ["a"] * 4, 0.95, 20_000, 0)
    assert one.value == 0.25
    assert (one.low, one.high) == (-0.25, 0.5)  # of 4: 3 or more of -0.5 come in 5 %, none in 32 %
    assert one.half_width == 0.375
    assert (none.value, none.low, none.high, none.p) == (0, 0, 0, 1)


def test_resamples_are_those_of_the_seed() -> None:
    values = np.linspace(0, 1, 30)
    assert bootstrap_mean(values, ["a"] * 30, 0.9, 500, 1) == bootstrap_mean(values, ["a"] * 30, 0.9, 500, 1)
    assert bootstrap_mean(values, ["a"] * 30, 0.9, 500, 1) != bootstrap_mean(values, ["a"] * 30, 0.9, 500, 2)


def test_p_is_the_smaller_tail() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.2, 1, 100)
    got = bootstrap_mean(values, ["a"] * 100, 0.95, 20_000, 0)
    z = values.mean() / (values.std() / 10)
    from scipy.stats import norm

    assert got.p == pytest.approx(2 * norm.sf(abs(z)), abs=0.01)
    assert bootstrap_mean(np.ones(10), ["a"] * 10, 0.95, 999, 0).p == pytest.approx(2 / 1000)


def test_documents_are_the_unit_from_twenty_on_and_widen_the_interval() -> None:
    assert resampling_unit([str(n) for n in range(19)] * 3) == "question"
    assert resampling_unit([str(n) for n in range(20)]) == "document"
    random = np.random.default_rng(0)
    documents = [str(n) for n in range(25) for _ in range(10)]
    values = np.repeat(random.normal(0, 1, 25), 10) + random.normal(0, 0.1, 250)
    by_document = bootstrap_mean(values, documents, 0.95, 2000, 0)
    by_question = bootstrap_mean(values, ["one"] * 250, 0.95, 2000, 0)
    assert by_document.half_width > 2.5 * by_question.half_width


@pytest.mark.parametrize("clustered", [False, True])
def test_95_percent_of_the_intervals_hold_the_truth(clustered: bool) -> None:
    """1,000 simulations each: 235 questions of recall differences, mostly 0; or 60 documents of four."""
    random, held = np.random.default_rng(7), 0
    documents = [str(n // 4) for n in range(240)] if clustered else ["d"] * 235
    for seed in range(1000):
        own = random.choice([0.0, 0.0, 0.0, 1.0, -0.4], 235 if not clustered else 240)
        shared = np.repeat(random.normal(0, 0.3, 60), 4) if clustered else 0
        got = bootstrap_mean(own + shared, documents, 0.95, 400, seed)
        held += got.low <= 0.12 <= got.high
    assert 0.925 <= held / 1000 <= 0.975
