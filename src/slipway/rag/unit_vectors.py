"""Vectors of length 1, as every embedder gives them, and the mean of a long text's windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slipway.errors import DataError

F32 = NDArray[np.float32]
_LEAST = 1e-30  # in place of a length of 0: the sum stays 0, and is named by `normalized_rows`


def normalized_rows(vectors: F32, names: Sequence[str]) -> F32:
    """Rows at length 1, [n, dimension]. Raises DataError naming the first that is zero or not finite."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        what = "not finite" if not np.isfinite(lengths[bad[0]]) else "all zeros"
        raise DataError(
            f"vector of {names[bad[0]]}", f"{what} ({len(bad)} of {len(names)})", "a finite vector", "look at that text"
        )
    return np.asarray(vectors / lengths[:, None], dtype=np.float32)


def sum_of_windows(rows: F32, tokens: Sequence[int]) -> F32:
    """The direction of a text, [dimension], from those of its windows, [windows, dimension]: each at length 1, times
    its tokens. The vector of a single window is given as it is."""
    if len(rows) == 1:
        return np.asarray(rows[0])
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(_LEAST))
    return np.asarray((unit * np.array(tokens, np.float32)[:, None]).sum(0), dtype=np.float32)
