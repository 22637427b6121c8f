"""The paired bootstrap for means of shares, beside Tango's interval for yes and no.

    difference  mean over questions of ours - theirs
    resampled   questions with replacement; or whole documents, from `BY_DOCUMENT` of them on: questions of one
                document are not independent (fewer documents make a bootstrap of documents too narrow)
    interval    percentiles of the resampled differences (Efron 1979)
    p value     twice the smaller share of resampled differences on the other side of 0, at least 1 / (B + 1)

A resample is the count of each question, and its means a matrix product. Stated limit: the percentile interval is
narrow for fewer than some 50 questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BY_DOCUMENT = 20
_BLOCK = 2_000_000  # counts drawn at a time


@dataclass(frozen=True)
class BootstrapDifference:
    """A mean difference with its percentile interval and two-sided p value."""

    value: float
    low: float
    high: float
    p: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def resampling_unit(documents: Sequence[str]) -> str:
    """`document` where there are enough of them, else `question`."""
    return "document" if len(set(documents)) >= BY_DOCUMENT else "question"


def paired_bootstrap(
    differences: NDArray[np.float64], documents: Sequence[str], confidence: float, resamples: int, seed: int
) -> list[BootstrapDifference]:
    """One result for each column of `differences`, [questions, columns]; all on the same resamples.

    `documents`: the document of each question. The p value of columns without any difference is 1.
    """
    sums, sizes = _by_unit(differences, documents)
    means = _resampled(sums, sizes, resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    below, above = (means <= 0).sum(0), (means >= 0).sum(0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (resamples + 1))
    values = differences.mean(0)
    columns = zip(values, low, high, p, strict=True)
    return [BootstrapDifference(*(float(one) for one in column)) for column in columns]


def bootstrap_mean(
    values: NDArray[np.float64], documents: Sequence[str], confidence: float, resamples: int, seed: int
) -> BootstrapDifference:
    """A mean with its interval, [questions]; `p` is against 0."""
    return paired_bootstrap(values[:, None], documents, confidence, resamples, seed)[0]


def _by_unit(
    differences: NDArray[np.float64], documents: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums, [units, columns], and sizes, [units], of what is resampled as one."""
    if resampling_unit(documents) == "question":
        return differences, np.ones(len(differences))
    names, units = np.unique(np.array(documents), return_inverse=True)
    sums = np.zeros((len(names), differences.shape[1]))
    np.add.at(sums, units, differences)
    return sums, np.bincount(units).astype(np.float64)


def _resampled(sums: NDArray[np.float64], sizes: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of the resamples, [resamples, columns]."""
    random, units = np.random.default_rng(seed), len(sizes)
    parts, left = list[NDArray[np.float64]](), resamples
    while left:
        count = min(left, max(_BLOCK // units, 1))
        drawn = random.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
        parts.append(counts @ sums / (counts @ sizes)[:, None])
        left -= count
    return np.concatenate(parts)
