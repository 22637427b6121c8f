"""BM25 over chunk texts (bm25s: Lucene's variant, k1 1.5, b 0.75): words in lower case without English stop words.

The words are cut here, by one pattern, so that an index means the same with every version of the library.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slipway.errors import StateError

Ranked = list[tuple[int, float]]  # row and score, best first
_WORD = re.compile(r"\w\w+")
_STOP = frozenset(
    # those of Lucene
    ("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
     "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with")
)  # fmt: skip


def words(text: str) -> list[str]:
    """Words of two characters or more, in lower case, without stop words."""
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]


@dataclass(frozen=True)
class Words:
    """A question for a store: its words, and how often it has each word of the index, by the word's number."""

    words: Sequence[str]
    counts: Mapping[int, float]


class LexicalSearch(Protocol):
    """What ranks rows by the words of a text."""

    def search(self, text: str, depth: int) -> Ranked:
        """The best rows with a word of the text; scores above 0, ties by row."""
        ...


class LexicalIndex:
    """A BM25 index; rows are numbers of the texts that it was built of."""

    def __init__(self, engine: Any, rows: int) -> None:
        self._engine, self.rows = engine, rows

    @classmethod
    def build(cls, texts: Sequence[str]) -> LexicalIndex:
        """Index these texts; at least one must hold a word. Words are numbered in their order in the alphabet: bm25s
        numbers them by Python's hashes, which differ from process to process, and the bytes with them."""
        import bm25s
        from bm25s.tokenization import Tokenized

        split = [words(text) for text in texts]
        numbers = {word: number for number, word in enumerate(sorted({word for text in split for word in text}))}
        engine = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        ids = [[numbers[word] for word in text] for text in split]
        engine.index(Tokenized(ids=ids, vocab=numbers), show_progress=False)
        return cls(engine, len(texts))

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        self._engine.save(str(folder), show_progress=False)

    @classmethod
    def open(cls, folder: Path, rows: int) -> LexicalIndex:
        """The index in a folder. Raises StateError for one that cannot be read."""
        import bm25s

        try:
            return cls(bm25s.BM25.load(str(folder), show_progress=False), rows)
        except (OSError, ValueError, KeyError) as err:
            raise StateError(f"BM25 index {folder}", err, "the files that were built", "`slipway rag build`") from err

    def search(self, text: str, depth: int) -> Ranked:
        """The best rows with a word of the text; scores above 0, ties by row."""
        known = self._known(text)
        if not known:
            return []
        scores = np.asarray(self._engine.get_scores(known))
        return top(scores, depth, above=0.0)

    def question(self, text: str) -> Words:
        """A text as a store is asked it: words that the index does not hold are left out."""
        known = self._known(text)
        numbers = Counter(int(self._engine.vocab_dict[word]) for word in known)
        return Words(known, {number: float(times) for number, times in numbers.items()})

    def weights(self) -> list[dict[int, float]]:
        """For each row the BM25 weight of its words, by the word's number: the score of a question is the sum of those
        of its words."""
        columns = self._engine.scores
        rows: list[dict[int, float]] = [{} for _ in range(self.rows)]
        for word, (first, end) in enumerate(itertools.pairwise(columns["indptr"].tolist())):
            pairs = zip(columns["indices"][first:end].tolist(), columns["data"][first:end].tolist(), strict=True)
            for row, weight in pairs:
                rows[row][word] = weight
        return rows

    def _known(self, text: str) -> list[str]:
        return [word for word in words(text) if word in self._engine.vocab_dict]


def top(scores: Any, depth: int, above: float | None = None) -> Ranked:
    """The `depth` largest of an array of scores, [n], as row and score; equal ones by row."""
    count = min(depth, len(scores))
    candidates = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    limit = scores[candidates].min()
    candidates = np.flatnonzero(scores >= limit)  # ties at the edge too, or which one is kept is chance
    order = candidates[np.lexsort((candidates, -scores[candidates]))][:count]
    return [(int(row), float(scores[row])) for row in order if above is None or scores[row] > above]
