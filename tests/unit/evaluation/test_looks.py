"""Two looks at one test: published boundaries, and the level kept in simulated normals."""

from __future__ import annotations

from math import sqrt
from random import Random
from statistics import NormalDist

import pytest

from slipway.errors import DataError
from slipway.evaluation.looks import look_alpha


def test_half_and_whole_give_the_tabulated_bounds_of_pococks_type() -> None:
    """Two-sided 0.05, two equal looks: 2.157 and 2.201 (gsDesign, sfLDPocock; R ldbounds gives the same)."""
    first, second = (NormalDist().inv_cdf(1 - look_alpha(0.025, 0.5, look)) for look in (1, 2))
    assert (first, second) == (pytest.approx(2.157, abs=2e-3), pytest.approx(2.201, abs=2e-3))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_looks_together_err_as_often_as_one(share: float) -> None:
    bounds = [NormalDist().inv_cdf(1 - look_alpha(0.05, share, look)) for look in (1, 2)]
    random, wrong, n = Random(2), 0, 40_000
    for _ in range(n):
        one = random.gauss(0, 1)
        two = sqrt(share) * one + sqrt(1 - share) * random.gauss(0, 1)
        wrong += one >= bounds[0] or two >= bounds[1]
    assert wrong / n == pytest.approx(0.05, abs=0.0045)  # four standard errors


def test_a_first_look_at_everything_is_the_only_one() -> None:
    assert look_alpha(0.05, 1.0, 1) == look_alpha(0.05, 1.0, 2) == 0.05


@pytest.mark.parametrize(("share", "look"), [(0.0, 1), (1.1, 1), (0.5, 3), (0.5, 0), (-0.1, 2)])
def test_what_is_no_look_is_refused(share: float, look: int) -> None:
    with pytest.raises(DataError, match="look"):
        look_alpha(0.05, share, look)
