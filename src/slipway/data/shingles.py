"""What of a row its near duplicates share: the pairs of neighbouring tokens (bigrams) of its prompt.

A bigram that starts or ends the prompt is one too, so that a prompt of one word has bigrams. Rows are judged by what
differs between them, so two things that many rows share are set aside: a system prompt, and a passage of eight tokens
or more (an instruction before the text proper). Many are ten rows, or half of them where that is fewer, three at least.
`whole` holds all bigrams of the turns, `own` those outside of shared passages; a prompt that is nothing but shared
passages is judged by all of them, and compared with its like only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.data.row_table import I64, U64, RowTable

PASSAGE = 8
MANY = 10
_ROW = np.uint64(32)


@dataclass(frozen=True)
class Sets:
    """Sets of bigrams, compressed: those of row i are `grams[starts[i]:starts[i + 1]]`, int32, rarest first."""

    starts: I64
    grams: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> I64:
        """Bigrams of each row."""
        return np.diff(self.starts)

    def of(self, rows: I64) -> Sets:
        """The sets of these rows, in their order."""
        sizes = self.sizes[rows]
        return Sets(_starts(sizes), self.grams[spans(self.starts[rows], sizes)])


@dataclass(frozen=True)
class Shingles:
    """`whole` and `own` sets of the same rows; `own` is None where nothing is set aside. `covered`: whether a row is
    nothing but shared passages."""

    whole: Sets
    own: Sets | None
    covered: NDArray[np.bool_]

    def of(self, rows: I64) -> Shingles:
        """The shingles of these rows, in their order."""
        return Shingles(self.whole.of(rows), self.own.of(rows) if self.own else None, self.covered[rows])


def shingles(table: RowTable, rows: I64) -> Shingles:
    """The shingles of these rows of a table; what many rows share is counted among these."""
    many = max(3, min(MANY, len(rows) // 2))
    words, starts = _words(table, rows, many)
    shared = _shared(words, starts, many)
    codes, own = _bigrams(words, starts, shared)
    row_of = np.repeat(np.arange(len(rows)), np.diff(starts) + 1)
    grams = _by_frequency(codes)
    whole = _sets(row_of, grams, len(rows))
    if not shared.any():
        return Shingles(whole, None, np.zeros(len(rows), bool))
    covered = np.bincount(row_of, own, len(rows)) == 0
    own |= covered[row_of]
    return Shingles(whole, _sets(row_of[own], grams[own], len(rows)), covered)


def spans(starts: I64, sizes: I64) -> I64:
    """Indices of the items of several spans of an array, one span after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(total)


def mixed(values: U64) -> U64:
    """A bijection of 64-bit numbers after which every bit depends on every bit (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _starts(sizes: I64) -> I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _words(table: RowTable, rows: I64, many: int) -> tuple[NDArray[np.uint32], I64]:
    """The tokens of the rows, one row after the other; without the system prompts that many rows have."""
    _, prompt, rows_with = np.unique(table.context[rows], return_inverse=True, return_counts=True)
    system = np.where(rows_with[prompt] >= many, table.system_words[rows], 0).astype(np.int64)
    starts = table.word_starts[rows] + system
    sizes = table.word_starts[rows + 1] - starts
    return table.words[spans(starts, sizes)], _starts(sizes)


def _shared(words: NDArray[np.uint32], starts: I64, many: int) -> NDArray[np.bool_]:
    """Whether a token lies in a passage that many rows share."""
    marks = np.zeros(len(words) + 1, np.int32)
    row_of = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    if len(words) < PASSAGE:
        return np.zeros(len(words), bool)
    first = np.flatnonzero(row_of[: 1 - PASSAGE] == row_of[PASSAGE - 1 :])
    if not len(first):
        return np.zeros(len(words), bool)
    codes = np.zeros(len(first), np.uint64)
    for k in range(PASSAGE):
        codes = mixed(codes + words[first + k] + np.uint64(0x9E3779B97F4A7C15))
    order = np.argsort(codes, kind="stable")  # stable: equal passages stay in the order of their rows
    codes, rows = codes[order], row_of[first[order]]
    new = np.concatenate([[True], codes[1:] != codes[:-1]])
    in_another_row = new | np.concatenate([[True], rows[1:] != rows[:-1]])
    begins = np.flatnonzero(new)
    rows_with = np.add.reduceat(in_another_row, begins, dtype=np.int64)
    frequent = first[order[np.repeat(rows_with >= many, np.diff([*begins, len(codes)]))]]
    marks[frequent] += 1  # each passage begins at a place of its own
    marks[frequent + PASSAGE] -= 1
    return np.cumsum(marks[:-1]) > 0


def _bigrams(words: NDArray[np.uint32], starts: I64, shared: NDArray[np.bool_]) -> tuple[U64, NDArray[np.bool_]]:
    """A code for each bigram, edges included, row after row; and whether it holds a token outside of shared
    passages."""
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    at = np.arange(len(words)) + rows  # a row of n tokens has n + 1 bigrams
    left, right = (np.zeros(len(words) + len(starts) - 1, np.uint64) for _ in range(2))
    left[at + 1], right[at] = words, words
    own = np.zeros(len(left), bool)
    own[at + 1] = ~shared
    own[at] |= ~shared
    return mixed(left << _ROW | right), own


def _by_frequency(codes: U64) -> NDArray[np.int32]:
    """Codes -> numbers from 0 on, the rarest first."""
    unique, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rank = np.empty(len(unique), np.int32)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(unique), dtype=np.int32)
    return rank[index]


def _sets(row_of: I64, grams: NDArray[np.int32], rows: int) -> Sets:
    keys = np.sort(row_of.astype(np.uint64) << _ROW | grams.astype(np.uint64))
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    sizes = np.bincount((keys >> _ROW).astype(np.int64), minlength=rows)
    return Sets(_starts(sizes), (keys & np.uint64(0xFFFFFFFF)).astype(np.int32))
