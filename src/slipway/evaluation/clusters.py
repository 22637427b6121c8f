"""Intervals of means over items that come in clusters: items made from one template are alike and count for less.

With residuals u_i = x_i - mean and G clusters, the variance of the mean is the cluster-robust one,

    v = G / (G - 1) * sum over clusters (sum over its items u_i)^2 / n^2

(Liang, Zeger (1986), Biometrika 73:13-22; the factor and t with G - 1 degrees of freedom as in Cameron, Miller (2015),
J. Hum. Resour. 50:317-372). Where every item is its own cluster it is the ordinary variance of a mean.

Shares keep their score intervals, which hold where a share is near 0 or 1 and v collapses: they are computed for the
effective number of items n / deff, with the design effect deff = v / (variance of independent items), at least 1 (Korn,
Graubard (1998), Surv. Methodol. 24:193-201). Where no item deviates the design effect cannot be seen; then the clusters
are counted as the items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from slipway.evaluation.statistics import wilson


def variance_of_mean(values: Sequence[float], clusters: Sequence[str]) -> float:
    """The cluster-robust variance of the mean; infinite for a single cluster."""
    n, mean = len(values), sum(values) / len(values)
    sums: dict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    groups = len(sums)
    if groups < 2:
        return inf
    return groups / (groups - 1) * sum(u * u for u in sums.values()) / n**2


def effective_items(values: Sequence[float], clusters: Sequence[str]) -> float:
    """How many independent items these are worth: n / deff, never more than n nor less than 1."""
    n, groups = len(values), len(set(clusters))
    if groups == n:
        return float(n)
    mean = sum(values) / n
    independent = sum((v - mean) ** 2 for v in values) / n**2
    if independent <= 0:
        return float(groups)
    effect = variance_of_mean(values, clusters) / independent
    return max(1.0, min(float(n), n / effect)) if effect > 0 else float(n)


def share_interval(values: Sequence[float], clusters: Sequence[str], confidence: float) -> tuple[float, float]:
    """Wilson's two-sided interval of the share of ones in `values` (each 0 or 1), for the effective number of items."""
    n = effective_items(values, clusters)
    return wilson(sum(values) / len(values) * n, n, confidence)


def mean_interval(values: Sequence[float], clusters: Sequence[str], confidence: float) -> tuple[float, float]:
    """Student's two-sided interval of a mean with the cluster-robust variance; unbounded for a single cluster."""
    mean, half = sum(values) / len(values), half_width(values, clusters, confidence)
    return mean - half, mean + half


def half_width(values: Sequence[float], clusters: Sequence[str], confidence: float) -> float:
    """Half of Student's interval; infinite for a single cluster."""
    from scipy.special import stdtrit  # not above: the terminal imports this module's neighbours

    groups = len(set(clusters))
    if groups < 2:
        return inf
    return float(stdtrit(groups - 1, 1 - (1 - confidence) / 2)) * sqrt(variance_of_mean(values, clusters))


@dataclass(frozen=True)
class MeanDifference:
    """Mean of paired differences with a two-sided interval, the p-value of no difference, items and clusters."""

    value: float
    low: float
    high: float
    p: float
    n: int
    clusters: int


def paired_mean(differences: Sequence[float], clusters: Sequence[str], confidence: float) -> MeanDifference:
    """Student's paired test with the cluster-robust variance. One cluster alone gives an unbounded interval and p = 1;
    equal differences everywhere an interval of no width, which the caller must not trust for few items."""
    from scipy.special import stdtr

    n, groups, mean = len(differences), len(set(clusters)), sum(differences) / len(differences)
    half = half_width(differences, clusters, confidence)
    if half == inf:
        return MeanDifference(mean, -inf, inf, 1.0, n, groups)
    error = sqrt(variance_of_mean(differences, clusters))
    p = 2 * float(stdtr(groups - 1, -abs(mean) / error)) if error else float(mean == 0)
    return MeanDifference(mean, mean - half, mean + half, p, n, groups)
