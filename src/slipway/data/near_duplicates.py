"""Pairs of near duplicates: Jaccard similarity of their bigrams, J(a, b) = |a & b| / |a | b|, at or above a threshold
t; both of all bigrams and of those outside of shared passages (see `shingles`).

Candidates by prefix filtering (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search"), which is exact:
with all sets in one global order, rarest bigram first, J >= t needs a shared bigram among the first |a| - ceil(t |a|) +
1 of each. Where that makes more than `MOST_CANDIDATES` pairs (millions of rows written from few words), by MinHash in
bands (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3): b bands of r minima find a
pair of similarity s with probability 1 - (1 - s^r)^b, at least 0.999 for s = t, and within a band's bucket a row is
compared with the eight rows before it and the bucket's first eight. Every candidate's similarity is then computed
exactly, so no pair is wrong, and only MinHash may miss some; `exact` says which it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from slipway.data.row_table import I64, U64
from slipway.data.shingles import Sets, Shingles, mixed, spans

MOST_CANDIDATES = 20_000_000
MOST_BANDS = 32
NEIGHBOURS = 8
BLOCK = 500_000  # pairs
BLOCK_GRAMS = 8_000_000
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Pairs:
    """Near pairs as two arrays of row numbers, first < second, in the order of second, then first."""

    first: I64
    second: I64
    exact: bool = True

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(shingles: Shingles, threshold: float, classes: U64, sides: NDArray[np.integer] | None = None) -> Pairs:
    """The near pairs of rows of one class (`classes`: a number a row, such as the answer's digest), and, with `sides`
    (a number a row), of different sides only."""
    compared = shingles.own or shingles.whole
    if len(compared) < 2:
        return Pairs(_NONE, _NONE)
    classes = mixed(classes * np.uint64(2) + shingles.covered.astype(np.uint64))
    prefixes = _prefixes(compared, threshold, classes)
    exact = _pair_count(prefixes[0]) <= MOST_CANDIDATES
    batches = [_NONE]
    blocks = _by_prefix(*prefixes) if exact else _by_minhash(compared, threshold, classes, sides)
    rows = len(compared)
    for first, second in _gathered(blocks):
        ends = np.minimum(first, second), np.maximum(first, second)
        wanted = (ends[0] != ends[1]) & (classes[first] == classes[second])
        if sides is not None:
            wanted &= sides[first] != sides[second]
        codes = np.unique(ends[1][wanted] * rows + ends[0][wanted])
        second, first = np.divmod(codes, rows)
        near = _near(compared, first, second, threshold)
        if shingles.own:
            near[near] = _near(shingles.whole, first[near], second[near], threshold)
        batches.append(codes[near])
    second, first = np.divmod(np.unique(np.concatenate(batches)), rows)
    return Pairs(first, second, exact)


def greedy(pairs: Pairs, rows: int) -> tuple[NDArray[np.bool_], I64]:
    """Rows that stay when each row goes that is near an earlier one which stays; and of each that goes the first such
    row, -1 for those that stay."""
    stays, twin = [True] * rows, [-1] * rows
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        if stays[first] and stays[second]:
            stays[second], twin[second] = False, first
    return np.array(stays, bool), np.array(twin, np.int64)


def components(pairs: Pairs, rows: int) -> I64:
    """A number for each row; equal for rows that a chain of near pairs joins."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs.first, pairs.second)), shape=(rows, rows))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _near(sets: Sets, first: I64, second: I64, threshold: float) -> NDArray[np.bool_]:
    """Which pairs reach the threshold."""
    a, b = sets.sizes[first], sets.sizes[second]
    near = np.minimum(a, b) >= threshold * np.maximum(a, b) - 1e-9
    some = np.flatnonzero(near)
    blocks = np.searchsorted(np.cumsum((a + b)[some]), np.arange(BLOCK_GRAMS, (a + b)[some].sum(), BLOCK_GRAMS))
    for block in np.split(some, np.unique(blocks)):
        shared = _shared_grams(sets, first[block], second[block])
        near[block] = shared >= threshold * (a[block] + b[block] - shared) - 1e-9
    return near


def _shared_grams(sets: Sets, first: I64, second: I64) -> I64:
    """The bigrams that each pair shares: those that stand twice among both."""
    keys = []
    for rows in (first, second):
        sizes = sets.sizes[rows]
        pair = np.repeat(np.arange(len(rows), dtype=np.uint64), sizes) << np.uint64(31)
        keys.append(pair | sets.grams[spans(sets.starts[rows], sizes)].astype(np.uint64))
    every = np.sort(np.concatenate(keys))
    twice = every[1:][every[1:] == every[:-1]] >> np.uint64(31)
    return np.bincount(twice.astype(np.int64), minlength=len(first))


def _prefixes(sets: Sets, threshold: float, classes: U64) -> tuple[U64, I64]:
    """A code for each bigram of each row's prefix and class, sorted; and the rows."""
    sizes = sets.sizes
    lengths = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    lengths = np.minimum(lengths, sizes)
    rows = np.repeat(np.arange(len(sets)), lengths)
    codes = mixed(sets.grams[spans(sets.starts[:-1], lengths)].astype(np.uint64) ^ classes[rows])
    order = np.argsort(codes, kind="stable")
    return codes[order], rows[order]


def _pair_count(codes: U64) -> float:
    counts = np.diff(_borders(codes)).astype(float)
    return float((counts * (counts - 1) / 2).sum())


def _borders(codes: U64) -> I64:
    """Where runs of equal codes begin, and the end."""
    new = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    return np.concatenate([[0], new, [len(codes)]]) if len(codes) else np.zeros(1, np.int64)


def _by_prefix(codes: U64, rows: I64) -> Iterator[tuple[I64, I64]]:
    """All pairs within the runs of equal codes: those one apart, then two, and so on."""
    borders = _borders(codes)
    left = np.repeat(borders[1:], np.diff(borders)) - np.arange(len(codes)) - 1  # rows of the run after this one
    here, distance = np.flatnonzero(left > 0), 1
    while len(here):
        yield rows[here], rows[here + distance]
        distance += 1
        here = here[left[here] >= distance]


def bands(threshold: float) -> tuple[int, int]:
    """Bands, and minima a band: the most selective that find a pair at the threshold with probability 0.999."""
    for minima in range(10, 1, -1):
        count = ceil(log(0.001) / log(1 - min(threshold, 0.999) ** minima))
        if count <= MOST_BANDS:
            return count, minima
    return ceil(log(0.001) / log(1 - min(threshold, 0.999))), 1


def _by_minhash(
    sets: Sets, threshold: float, classes: U64, sides: NDArray[np.integer] | None
) -> Iterator[tuple[I64, I64]]:
    count, minima = bands(threshold)
    grams = sets.grams.astype(np.uint64)
    side = np.zeros(len(sets), np.int64) if sides is None else -sides  # held-out rows first in their bucket
    for band in range(count):
        codes = classes.copy()
        for k in range(minima):
            salt = mixed(np.array([band * minima + k + 1], np.uint64))
            codes = mixed(codes ^ np.minimum.reduceat(mixed(grams ^ salt), sets.starts[:-1]))
        order = np.lexsort((side, codes))
        yield from _in_buckets(codes[order], order)


def _in_buckets(codes: U64, rows: I64) -> Iterator[tuple[I64, I64]]:
    """Each row of a bucket with the few before it, and with the bucket's first few."""
    borders = _borders(codes)
    begins = np.repeat(borders[:-1], np.diff(borders))
    place = np.arange(len(codes)) - begins
    for k in range(1, NEIGHBOURS + 1):
        here = np.flatnonzero(place >= k)
        yield rows[here], rows[here - k]
        here = here[place[here] >= NEIGHBOURS + k]  # nearer ones are among the neighbours
        yield rows[here], rows[begins[here] + k - 1]


def _gathered(blocks: Iterator[tuple[I64, I64]]) -> Iterator[tuple[I64, I64]]:
    """Blocks joined until they are worth a pass."""
    waiting: list[tuple[I64, I64]] = []
    for block in blocks:
        waiting.append(block)
        if sum(len(first) for first, _ in waiting) >= BLOCK:
            yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])
            waiting = []
    if waiting:
        yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])
