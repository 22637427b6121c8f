"""Cluster-robust intervals against their ordinary forms, an independent computation and their own coverage."""

from __future__ import annotations

from math import inf
from random import Random

import pytest
from scipy import stats

from slipway.evaluation.clusters import effective_items, mean_interval, paired_mean, share_interval, variance_of_mean
from slipway.evaluation.statistics import wilson

OWN = [str(i) for i in range(40)]


def test_without_shared_clusters_the_intervals_are_the_ordinary_ones() -> None:
    random = Random(1)
    values = [random.random() for _ in OWN]
    ordinary = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, OWN, 0.9) == (pytest.approx(ordinary.low), pytest.approx(ordinary.high))
    ones = [1.0] * 13 + [0.0] * 27
    assert share_interval(ones, OWN, 0.95) == wilson(13, 40, 0.95)
    test = paired_mean(values, OWN, 0.9)
    assert test.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_equal_clusters_give_the_interval_of_their_means() -> None:
    """With clusters of one size the robust variance of the mean is that of the cluster means."""
    random = Random(2)
    means = [random.random() for _ in range(10)]
    values = [m + e for m in means for e in (-0.1, 0.0, 0.1)]
    clusters = [str(i) for i in range(10) for _ in range(3)]
    assert variance_of_mean(values, clusters) == pytest.approx(stats.sem(means) ** 2)


def test_copies_of_an_item_are_worth_one() -> None:
    values = [float(i % 3 == 0) for i in range(20) for _ in range(5)]
    clusters = [str(i) for i in range(20) for _ in range(5)]
    assert effective_items(values, clusters) == pytest.approx(19, abs=0.01)  # 20, less the factor G / (G - 1)
    assert effective_items([1.0] * 100, clusters) == 20
    assert effective_items([1.0] * 3, ["a"] * 3) == 1


def test_one_cluster_has_no_bound() -> None:
    assert mean_interval([0.1, 0.9], ["a", "a"], 0.95) == (-inf, inf)
    test = paired_mean([0.1, 0.9], ["a", "a"], 0.95)
    assert (test.low, test.high, test.p) == (-inf, inf, 1.0)


@pytest.mark.parametrize(("difference", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_equal_differences_have_no_width(difference: float, p: float) -> None:
    test = paired_mean([difference] * 8, OWN[:8], 0.9)
    assert (test.value, test.low, test.high, test.p) == (difference, difference, difference, p)


def test_shares_of_clustered_items_are_covered_at_the_level() -> None:
    """300 draws of 25 templates with 6 items each, all right or all wrong in half of them; fixed seed."""
    random, covered, naive = Random(5), 0, 0
    for _ in range(300):
        values, clusters = [], []
        for template in range(25):
            level = random.choice((0.0, 1.0, 0.5, 0.5))
            values += [float(random.random() < level) for _ in range(6)]
            clusters += [str(template)] * 6
        low, high = share_interval(values, clusters, 0.95)
        covered += low <= 0.5 <= high
        plain_low, plain_high = wilson(sum(values), len(values), 0.95)
        naive += plain_low <= 0.5 <= plain_high
    assert covered / 300 >= 0.91
    assert naive / 300 < 0.85
