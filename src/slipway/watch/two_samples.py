"""Do two samples of requests come from one distribution? A quadratic form for every distance, one permutation test.

With a = 1/m on the m evaluated requests and -1/n on the n captured ones, and a kernel K between requests,

    D = a' K a

    lengths    K_ij = -|x_i - x_j|, x = log2(1 + characters): the energy distance (Szekely, Rizzo (2013), J. Stat.
               Plan. Inference 143:1249-1272)
    n-grams    K_ij = cosine of the counts of character trigrams: the squared distance of the mean profiles (maximum
               mean discrepancy with a linear kernel; Gretton et al. (2012), J. Mach. Learn. Res. 13:723-773)
    labels     K_ij = [same label] / share of that label in both: Pearson's chi-square, but for a factor

If both samples come from one distribution every division of the m + n requests into m and n is as likely as the one
that was seen, so p = (1 + divisions with a D as large) / (1 + divisions tried) is a p-value without any assumption on
the distribution (Phipson, Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39). The test ends before, when EARLY divisions
have a D as large; then p = EARLY / divisions tried up to the last of these (Besag, Clifford (1991), Biometrika
78:301-304).
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

PORTION, PORTIONS = 1_000, 100
EARLY = 100
SEED = 20_260_105
BUCKETS = 1 << 12
NGRAM = 3


@dataclass(frozen=True)
class Distance:
    """`value`: D of the two samples; `limit`: what D exceeds with probability `level` at most if they are one sample
    (None where too few divisions were tried to say); `p` of "one distribution"."""

    value: float
    limit: float | None
    p: float


def distances(kernels: Mapping[str, F32], first: int, level: float) -> dict[str, Distance]:
    """The distance by each kernel ((m + n) x (m + n), the `first` m rows are one sample) with its p-value."""
    import numpy as np

    size = len(next(iter(kernels.values())))
    weights = _weights(size, first)
    values = {name: float(weights @ kernel @ weights) for name, kernel in kernels.items()}
    drawn: dict[str, list[F32]] = {name: [] for name in kernels}
    open_tests = set(kernels)
    for number in range(PORTIONS):
        if not open_tests:
            break
        divisions = _divisions(size, first, number)
        for name in sorted(open_tests):
            drawn[name].append(np.einsum("bi,bi->b", divisions @ kernels[name], divisions))
            if sum(int(_as_large(portion, values[name]).sum()) for portion in drawn[name]) >= EARLY:
                open_tests.discard(name)
    return {name: _distance(values[name], np.concatenate(drawn[name]), level) for name in kernels}


def _weights(size: int, first: int) -> F32:
    """The vector a."""
    import numpy as np

    weights = np.full(size, -1 / (size - first), np.float32)
    weights[:first] = 1 / first
    return weights


@lru_cache(4)
def _divisions(size: int, first: int, number: int) -> F32:
    """PORTION random orders of a, the same in every test of these sizes."""
    import numpy as np

    return np.random.default_rng([SEED, number]).permuted(np.tile(_weights(size, first), (PORTION, 1)), axis=1)


def _distance(value: float, drawn: F32, level: float) -> Distance:
    import numpy as np

    hits = np.flatnonzero(_as_large(drawn, value))
    p = (1 + len(hits)) / (1 + len(drawn)) if len(hits) < EARLY else EARLY / float(hits[EARLY - 1] + 1)
    rank = int(level * (1 + len(drawn)) * (1 + 1e-12))  # of the largest: as many as may be above the limit, and one
    limit = float(np.sort(drawn)[len(drawn) - rank]) if rank >= 1 else None
    return Distance(value, limit, p)


def _as_large(drawn: F32, value: float) -> NDArray[np.bool_]:
    """Which divisions have a D as large, but for a rounding of float32."""
    return drawn >= value - abs(value) * 1e-5


def length_kernel(texts: Sequence[str]) -> F32:
    """Of the lengths of texts, characters."""
    import numpy as np

    x = np.log2(1 + np.array([len(text) for text in texts], np.float32))
    kernel: F32 = -np.abs(x[:, None] - x[None, :])
    return kernel


def ngram_kernel(texts: Sequence[str]) -> F32:
    """Of the character trigrams of texts, without case and with one space for any; of a text's counts, hashed."""
    import numpy as np

    counts = np.zeros((len(texts), BUCKETS), np.float32)
    for row, text in zip(counts, texts, strict=True):
        plain = f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} ".encode("utf-8", "replace")
        for at in range(max(1, len(plain) - NGRAM + 1)):
            row[zlib.crc32(plain[at : at + NGRAM]) % BUCKETS] += 1
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    kernel: F32 = counts @ counts.T
    return kernel


def label_kernel(labels: Sequence[str]) -> F32:
    """Of labels."""
    import numpy as np

    names, at, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    onehot = np.eye(len(names), dtype=np.float32)[at]
    kernel: F32 = (onehot * (len(labels) / counts).astype(np.float32)) @ onehot.T
    return kernel
