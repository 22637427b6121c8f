"""What of a row its near duplicates share: the pairs of neighbouring tokens (bigrams) of its prompt.

A bigram that starts or ends the prompt is one too, so that a prompt of one word has bigrams. Rows are judged by what
differs between them, so two things that many rows share are set aside: a system prompt, and a passage of eight tokens
or more (an instruction before the text proper). Many are ten rows, or half of them where that is fewer, three at least.
`whole` holds all bigrams of the turns, `own` those outside of shared passages; a prompt that is nothing but shared
passages is judged by all of them, and compared with its like only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slipway.data.row_table import I64, U64, RowTable

PASSAGE = 8
MANY = 10
BLOCK_WORDS = 4_000_000
BLOCK_ROWS = 1 << 20  # what 20 bits of a sort key hold
FREQUENCY_BITS = 22
_FREQUENCY_MASK = (1 << FREQUENCY_BITS) - 1
_NO_GRAMS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Sets:
    """Sets of bigrams, compressed: those of row i are `grams[starts[i]:starts[i + 1]]`, int32, rarest first (as far as
    a table of frequencies by hash knows: any one order will do, and rare first makes it fast)."""

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
    blocks = _blocks(starts)
    shared = _shared(words, starts, blocks, many)
    frequency = np.zeros(1 << FREQUENCY_BITS, np.int64)
    for first, last in blocks:
        grams, _ = _bigrams(words, starts[first : last + 1], shared)
        frequency += np.bincount(grams & _FREQUENCY_MASK, minlength=len(frequency))
    rare = np.minimum(frequency, 4095).astype(np.uint64)
    whole, own, covered = [], [], []
    for first, last in blocks:
        grams, apart = _bigrams(words, starts[first : last + 1], shared)
        row_of = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]) + 1)
        covered.append(np.bincount(row_of, apart, last - first) == 0)
        whole.append(_sets(row_of, grams, rare, last - first))
        if shared.any():
            apart |= covered[-1][row_of]
            own.append(_sets(row_of[apart], grams[apart], rare, last - first))
    if not own:
        return Shingles(_joined(whole), None, np.zeros(len(rows), bool))
    return Shingles(_joined(whole), _joined(own), np.concatenate(covered))


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


def _blocks(starts: I64) -> list[tuple[int, int]]:
    """Ranges of rows with some `BLOCK_WORDS` tokens each, so that what is computed of them stays small."""
    ends = np.searchsorted(starts, np.arange(BLOCK_WORDS, starts[-1] + BLOCK_WORDS, BLOCK_WORDS))
    limits = [0, *np.unique(np.minimum(ends, len(starts) - 1)).tolist(), len(starts) - 1]
    return [
        (at, min(at + BLOCK_ROWS, last)) for first, last in pairwise(limits) for at in range(first, last, BLOCK_ROWS)
    ]


def _shared(words: NDArray[np.uint32], starts: I64, blocks: list[tuple[int, int]], many: int) -> NDArray[np.bool_]:
    """Whether a token lies in a passage that many rows share. Passages are counted by a hash, in a table with eight
    places or more for each: that ten rows fall together by chance is rarer than one in 10^13."""
    bits = min(27, max(20, int(8 * len(words)).bit_length()))
    rows_with = np.zeros(1 << bits, np.int32)
    mask = np.uint64(len(rows_with) - 1)
    for first, last in blocks:
        at, row_of = _passages(starts[first : last + 1])
        codes = _passage_codes(words, at)
        _, once = np.unique(mixed(codes ^ mixed(row_of.astype(np.uint64))), return_index=True)  # once a row
        places, counts = np.unique(codes[once] & mask, return_counts=True)
        rows_with[places] += counts.astype(np.int32)
    marks = np.zeros(len(words) + 1, np.int8)
    for first, last in blocks:
        at, _ = _passages(starts[first : last + 1])
        frequent = at[rows_with[_passage_codes(words, at) & mask] >= many]
        marks[frequent] += 1  # each passage begins at a place of its own
        marks[frequent + PASSAGE] -= 1
    return np.cumsum(marks[:-1], dtype=np.int32) > 0


def _passages(starts: I64) -> tuple[I64, I64]:
    """Where the passages of some rows begin, and the row of each."""
    sizes = np.maximum(np.diff(starts) - PASSAGE + 1, 0)
    return spans(starts[:-1], sizes), np.repeat(np.arange(len(sizes)), sizes)


def _passage_codes(words: NDArray[np.uint32], at: I64) -> U64:
    codes = np.zeros(len(at), np.uint64)
    for k in range(PASSAGE):
        codes = mixed(codes + words[at + k] + np.uint64(0x9E3779B97F4A7C15))
    return codes


def _bigrams(words: NDArray[np.uint32], starts: I64, shared: NDArray[np.bool_]) -> tuple[I64, NDArray[np.bool_]]:
    """The bigrams of some rows as numbers of 31 bits, edges included, row after row; and whether each holds a token
    outside of shared passages."""
    some, apart = words[starts[0] : starts[-1]], ~shared[starts[0] : starts[-1]]
    at = np.arange(len(some)) + np.repeat(np.arange(len(starts) - 1), np.diff(starts))  # n tokens, n + 1 bigrams
    left, right = (np.zeros(len(some) + len(starts) - 1, np.uint64) for _ in range(2))
    left[at + 1], right[at] = some, some
    own = np.zeros(len(left), bool)
    own[at + 1] = apart
    own[at] |= apart
    return (mixed(left << np.uint64(32) | right) >> np.uint64(33)).astype(np.int64), own


def _sets(row_of: I64, grams: I64, rare: U64, rows: int) -> Sets:
    """The set of each row, by frequency and then by number: one order for all rows, packed into one number a bigram."""
    keys = row_of.astype(np.uint64) << np.uint64(43) | rare[grams & _FREQUENCY_MASK] << np.uint64(31)
    keys = np.sort(keys | grams.astype(np.uint64))
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    sizes = np.bincount((keys >> np.uint64(43)).astype(np.int64), minlength=rows)
    return Sets(_starts(sizes), (keys & np.uint64(0x7FFFFFFF)).astype(np.int32))


def _joined(parts: list[Sets]) -> Sets:
    sizes = [part.sizes for part in parts]
    grams = [part.grams for part in parts]
    return Sets(_starts(np.concatenate(sizes or [np.zeros(0, np.int64)])), np.concatenate(grams or [_NO_GRAMS]))
