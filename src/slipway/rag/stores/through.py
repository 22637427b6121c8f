"""An index searched in a store: texts, chunks and probes are the index's, rankings the store's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipway.rag.index import Index
from slipway.rag.lexical import LexicalIndex, Ranked
from slipway.rag.stores.store import F32, Store


def through(index: Index, store: Store, name: str) -> Index:
    """The index, as an opened one, whose searches a collection of the store answers."""
    vectors = None if index.vectors is None else StoredVectors(store, name)
    return dataclasses.replace(index, vectors=vectors, lexical=StoredWords(lexical_of(index), store, name))


def lexical_of(index: Index) -> LexicalIndex:
    """The index's own words: its numbers of them are what a store is asked by."""
    assert isinstance(index.lexical, LexicalIndex), "an index that is searched in a store already"
    return index.lexical


@dataclass(frozen=True)
class StoredVectors:
    """Answers as a FAISS index."""

    store: Store
    name: str

    def search(self, vectors: F32, depth: int) -> tuple[Sequence[F32], Sequence[np.ndarray]]:
        """Scores and rows of the best, a pair of arrays for each vector, [n, dimension]."""
        answers = [self.store.search(self.name, vector, depth) for vector in vectors]
        scores = [np.array([score for _, score in one], np.float32) for one in answers]
        return scores, [np.array([row for row, _ in one], np.int64) for one in answers]


@dataclass(frozen=True)
class StoredWords:
    """Answers as a LexicalIndex; words are cut and numbered by that of the index."""

    lexical: LexicalIndex
    store: Store
    name: str

    def search(self, text: str, depth: int) -> Ranked:
        """The best rows with a word of the text."""
        question = self.lexical.question(text)
        return self.store.search(self.name, question, depth) if question.words else []
