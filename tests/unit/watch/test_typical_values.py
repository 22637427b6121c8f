"""Typical values by hand: three clusters have seven sets, so eight intervals of equal probability."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from slipway.watch.typical_values import LEAST_P, clusters_needed, typical_values


def test_three_differences() -> None:
    test = typical_values([1.0, 2.0, 3.0], ["a", "b", "c"])
    assert sorted(test.values) == [1.0, 1.5, 2.0, 2.0, 2.0, 2.5, 3.0]
    assert test.mean == 2.0
    assert test.p_at_most(0.0) == 1 / 8  # of eight signs one is as extreme
    assert test.p_at_most(1.5) == 3 / 8
    assert test.lower(1 / 8) == 1.0
    assert test.lower(3 / 8) == 2.0
    assert test.lower(0.1) == -inf


def test_items_of_one_template_are_one_cluster() -> None:
    test = typical_values([1.0, 1.0, 4.0], ["a", "a", "b"])
    assert sorted(test.values) == [1.0, 2.0, 4.0]
    assert test.clusters == 2
    assert test.p_at_most(0.0) == 1 / 4


def test_it_is_the_exact_test_of_mcnemar_on_pairs() -> None:
    """Five losses and one win: P(at most one win of six) = 7 / 64."""
    assert typical_values([1.0] * 5 + [-1.0], list("abcdef")).p_at_most(0.0) == 7 / 64


def test_the_bound_is_where_the_p_value_reaches_its_level() -> None:
    random = Random(1)
    differences = [random.gauss(0.5, 1) for _ in range(40)]
    test = typical_values(differences, [str(i) for i in range(40)])
    bound = test.lower(0.01)
    assert test.p_at_most(bound - 1e-9) <= 0.01 < test.p_at_most(bound + 1e-9)
    assert test.p_at_most(-10.0) == pytest.approx(LEAST_P)


def test_how_many_clusters_a_level_needs() -> None:
    assert [clusters_needed(level) for level in (0.5, 0.25, 0.05, 1 / 8192)] == [1, 2, 5, 13]
