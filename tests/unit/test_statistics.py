import pytest

from slipway.errors import DataError
from slipway.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Stat. Med. 17:857-872, table I, method 3."""
    assert wilson(successes, n, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_exact_at_the_ends() -> None:
    low, high = wilson(7, 50, 0.9)
    assert wilson(43, 50, 0.9) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(DataError, match=f"{successes} of {n} items"):
        wilson(successes, n)
