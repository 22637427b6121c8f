"""A confidence bound on the mean of paired differences that needs no normal distribution: Hartigan's typical values.

Items i with differences d_i lie in clusters c (one template, one cluster). For a set s of clusters let r_s be the mean
of d over the items of s. If each cluster's sum of d - mu is distributed symmetrically about 0, mu falls with the same
probability into each of the intervals between the sorted r_s of all 2^C - 1 nonempty sets (Hartigan (1969), J. Am.
Stat. Assoc. 64:1303-1317). So

    p(m)  = (1 + number of r_s <= m) / (1 + number of r_s)     p-value of "mu is at most m", one-sided
    lower(a) = the largest m with p(m) <= a                     one-sided bound at level a

which is the test by random sign flips of the clusters' sums, turned round. It is exact where "then" and "now" may be
exchanged: an unchanged engine whose answers flip either way. Above MOST_ENUMERATED clusters `DRAWS` random sets stand
for all of them, drawn once with a fixed seed; the level is kept, since the identity is counted as one of them.
The smallest p is 1 / 2^C: with C clusters no level below it can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

DRAWS = 100_000
LEAST_P = 1 / (1 + DRAWS)  # that a random draw of sets can give
MOST_ENUMERATED = 14  # clusters: 16,383 sets
SEED = 20_260_105
COLUMNS = 64


@dataclass(frozen=True)
class TypicalValues:
    """`mean` of all items, the `values` r_s in no order (an empty random set is -inf), and the number of `clusters`."""

    mean: float
    values: NDArray[np.float64]
    clusters: int

    def p_at_most(self, margin: float) -> float:
        """p-value of "the mean is at most `margin`"."""
        return (1 + int((self.values <= margin).sum())) / (1 + len(self.values))

    def lower(self, level: float) -> float:
        """The one-sided lower bound of the mean at `level`; -inf where no bound has that level."""
        import numpy as np  # not above: a look at the state needs no arrays

        rank = int(level * (1 + len(self.values)) * (1 + 1e-12)) - 1
        return float(np.partition(self.values, rank)[rank]) if rank >= 0 else -inf


def typical_values(differences: Sequence[float], clusters: Sequence[str]) -> TypicalValues:
    """The typical values of at least one difference; `clusters`: the cluster of each."""
    import numpy as np

    names = {name: at for at, name in enumerate(dict.fromkeys(clusters))}
    member = np.array([names[name] for name in clusters])
    sums, sizes = np.bincount(member, weights=np.asarray(differences, float)), np.bincount(member)
    # one product in float32, exact for counts and for metrics of 0 and 1
    totals, counts = (_sets(len(names)) @ np.stack([sums, sizes], 1).astype(np.float32)).astype(float).T
    means = np.where(counts > 0, totals / np.maximum(counts, 1), -inf)
    return TypicalValues(float(sums.sum() / sizes.sum()), means, len(names))


def _sets(clusters: int) -> F32:
    """Sets of clusters, one a row of 0 and 1."""
    import numpy as np

    if clusters <= MOST_ENUMERATED:
        numbers = np.arange(1, 1 << clusters)
        return ((numbers[:, None] >> np.arange(clusters)) & 1).astype(np.float32)
    return _drawn(-(-clusters // COLUMNS) * COLUMNS)[:, :clusters]


@lru_cache(2)
def _drawn(clusters: int) -> F32:
    """Random sets; the first of their columns are random sets of fewer clusters."""
    import numpy as np

    return np.random.default_rng(SEED).integers(0, 2, (DRAWS, clusters), dtype=np.int8).astype(np.float32)


def clusters_needed(level: float) -> int:
    """The fewest clusters with which a p-value of at most `level` exists."""
    return max(1, ceil(log2(1 / level) - 1e-12))
