"""The kernels by hand, and the test on samples of one distribution and of two."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from slipway.watch.two_samples import EARLY, PORTION, PORTIONS, distances, label_kernel, length_kernel, ngram_kernel


def test_the_energy_distance_of_two_lengths() -> None:
    """x = 1, 1 against 3, 3: twice the mean distance between, less those within (none)."""
    kernel = length_kernel(["a", "a", "a" * 7, "a" * 7])
    assert distances({"l": kernel}, 2, 0.05)["l"].value == pytest.approx(4.0)


def test_the_label_distance_is_chi_square_but_for_a_factor() -> None:
    """Counts (3, 1) against (1, 3): chi-square is 2; D = chi-square * (m + n) / (m n) = 1."""
    kernel = label_kernel(["a", "a", "a", "b", "a", "b", "b", "b"])
    assert distances({"y": kernel}, 4, 0.05)["y"].value == pytest.approx(1.0)


def test_ngrams_know_no_case_and_no_spaces() -> None:
    kernel = ngram_kernel(["Turn  ON", "turn on", "xyzzy"])
    assert kernel[0, 1] == pytest.approx(1.0)
    assert kernel[0, 2] == pytest.approx(0.0)
    assert np.isfinite(ngram_kernel(["", "\ud800"])).all()


def test_all_divisions_of_two_and_two() -> None:
    """Of the six divisions two give this D: p is a third."""
    kernel = length_kernel(["a", "a", "a" * 7, "a" * 7])
    assert distances({"l": kernel}, 2, 0.05)["l"].p == pytest.approx(1 / 3, abs=0.1)


def test_another_distribution_is_found_and_the_same_is_not() -> None:
    random = Random(3)
    same = [f"turn on lamp {random.randrange(999)}" for _ in range(120)]
    other = [f"wie wird das Wetter {random.randrange(99)}" for _ in range(60)]
    equal = distances({"n": ngram_kernel(same), "l": length_kernel(same)}, 60, 1e-4)
    assert all(one.p > 0.01 for one in equal.values())
    other_kind = distances({"n": ngram_kernel(same[:60] + other)}, 60, 1e-4)["n"]
    assert other_kind.p == pytest.approx(1 / (1 + PORTION * PORTIONS))
    assert other_kind.limit is not None and other_kind.value > other_kind.limit


def test_p_values_of_one_distribution_are_as_often_small_as_they_say() -> None:
    """Of 100 tests of equal samples about a tenth has p < 0.1: 2 to 21 with a probability of 0.999."""
    random, small = Random(5), 0
    for _ in range(100):
        kernel = length_kernel(["a" * random.randrange(1, 99) for _ in range(40)])
        result = distances({"l": kernel}, 20, 0.05)["l"]
        small += result.p < 0.1
        assert result.p >= EARLY / (PORTION * PORTIONS)
    assert 2 <= small <= 21
