"""Near duplicates: Jaccard similarity of word bigrams, J(a, b) = |a & b| / |a | b|, at or above a threshold t.

Prefix filtering (Bayardo, Ma, Srikant 2007, "Scaling up all pairs similarity search") keeps it exact and fast: with all
sets in one global order, rarest bigram first, J >= t needs a shared bigram among the first |a| - ceil(t |a|) + 1 of
each. A bigram that starts or ends the sentence is one too, so that a one-word sentence has bigrams. Rows are compared
only with rows of the same answer: `turn on the lamp` and `turn off the lamp` are near, but no duplicates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from math import ceil

from slipway.data.rows import Row, answer_key, prompt, words

Bigram = tuple[str, str]
EDGE = ""


def bigrams(text: str) -> frozenset[Bigram]:
    """The word bigrams of a text, with those of its edges."""
    return frozenset(pairwise([EDGE, *words(text), EDGE]))


def jaccard(a: frozenset[Bigram], b: frozenset[Bigram]) -> float:
    """0 to 1; 1 for equal sets."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class NearIndex:
    """Rows added so far, asked for one near enough to a new row. `corpus` fixes the order of bigrams and may hold rows
    never added."""

    def __init__(self, corpus: Iterable[Row], threshold: float) -> None:
        self._threshold = threshold
        self._frequency = Counter(bigram for row in corpus for bigram in bigrams(prompt(row)))
        self._added: list[tuple[frozenset[Bigram], Row]] = []
        self._where: dict[tuple[str, Bigram], list[int]] = defaultdict(list)

    def find(self, row: Row) -> Row | None:
        """The first row added that has the same answer and is near; None when there is none."""
        grams, answer = bigrams(prompt(row)), answer_key(row)
        candidates = {i for gram in self._prefix(grams) for i in self._where.get((answer, gram), ())}
        near = (i for i in sorted(candidates) if self._near(grams, self._added[i][0]))
        first = next(near, None)
        return None if first is None else self._added[first][1]

    def add(self, row: Row) -> None:
        """Make a row one that `find` may return."""
        grams, answer = bigrams(prompt(row)), answer_key(row)
        for gram in self._prefix(grams):
            self._where[answer, gram].append(len(self._added))
        self._added.append((grams, row))

    def _prefix(self, grams: frozenset[Bigram]) -> list[Bigram]:
        ordered = sorted(grams, key=lambda gram: (self._frequency[gram], gram))
        return ordered[: len(grams) - ceil(self._threshold * len(grams) - 1e-9) + 1]

    def _near(self, a: frozenset[Bigram], b: frozenset[Bigram]) -> bool:
        return (
            min(len(a), len(b)) >= self._threshold * max(len(a), len(b)) - 1e-9
            and jaccard(a, b) >= self._threshold - 1e-9
        )
