"""Vectors of length 1, and the direction of a text in windows, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slipway.errors import DataError
from slipway.rag.unit_vectors import normalized_rows, sum_of_windows


def test_vectors_that_are_none_are_named() -> None:
    rows = np.array([[3, 4], [0, 0], [np.nan, 1]], np.float32)
    assert normalized_rows(rows[:1], ["a"]).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    with pytest.raises(DataError, match=r"vector of b: all zeros \(2 of 3\)"):
        normalized_rows(rows, ["a", "b", "c"])
    with pytest.raises(DataError, match="vector of c: not finite"):
        normalized_rows(rows[2:], ["c"])


def test_windows_weigh_their_tokens_whatever_their_length() -> None:
    rows = np.array([[30, 40], [0, 2]], np.float32)
    assert sum_of_windows(rows, [10, 5]).tolist() == [pytest.approx(6.0), pytest.approx(13.0)]


def test_one_window_is_given_bit_for_bit() -> None:
    row = np.array([[0.1, 0.7]], np.float32)
    assert (sum_of_windows(row, [254]) == row[0]).all()


def test_a_window_of_zeros_adds_nothing_and_a_text_of_them_is_named() -> None:
    zeros = np.zeros((1, 2), np.float32)
    mixed = np.concatenate([zeros, np.array([[0, 2]], np.float32)])
    assert sum_of_windows(mixed, [3, 4]).tolist() == [0, 4]
    with pytest.raises(DataError, match="all zeros"):
        normalized_rows(sum_of_windows(np.concatenate([zeros, zeros]), [3, 4])[None], ["t"])
