"""What a store of vectors must do. Five verbs for rows: create, add, search, count, drop; `record` and `rows` read back
what was written; `served` and `serve` are about the alias, the one name that clients search under.

A collection holds the rows of one index and the record of where they are from. Its name holds the index's digest, so
another index never lies under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway.config.store_address import StoreAddress
from slipway.errors import StateError
from slipway.rag.lexical import Ranked, Words

F32 = NDArray[np.float32]
LIKE = 1e-6  # a number of a vector may differ by this after its way through a store


@dataclass(frozen=True)
class Record:
    """Which index a collection holds: digests of the sealed index and of its embedder ("" without one), rows, length of
    the vectors (0 without an embedder)."""

    index: str
    embedder: str
    rows: int
    dimension: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return asdict(self)


def record_of(document: object, collection: str) -> Record:
    """The record of a collection. Raises StateError for a document that is none."""
    try:
        assert isinstance(document, Mapping)
        return Record(
            str(document["index"]), str(document["embedder"]), int(document["rows"]), int(document["dimension"])
        )
    except (AssertionError, KeyError, TypeError, ValueError):
        raise StateError(
            collection,
            f"its record is {document!r}",
            "the record that `slipway index push` writes",
            "use another alias",
        ) from None


@dataclass(frozen=True)
class Row:
    """One chunk in a store: the text that is given for it, what it is found by (`vector`, [dimension]; `words`), and
    `weights`, the BM25 weight of each of its words by the word's number in the index."""

    number: int
    document: str
    start: int
    end: int
    text: str
    vector: F32 | None
    words: Sequence[str] = ()
    weights: Mapping[int, float] | None = None

    def same(self, other: Row) -> bool:
        """Whether the other holds the same place, text and vector."""
        ours, theirs = self._place(), other._place()
        if ours != theirs or (self.vector is None) != (other.vector is None):
            return False
        if self.vector is None or other.vector is None:
            return True
        return self.vector.shape == other.vector.shape and bool(np.allclose(self.vector, other.vector, 0, LIKE))

    def _place(self) -> tuple[int, str, int, int, str]:
        return self.number, self.document, self.start, self.end, self.text


class Store(Protocol):
    """A store of vectors; its errors are EngineErrors that name it. `place`: its address, for messages;
    `approximate_bm25`: BM25 is its own, with scores that are not the index's to the digit."""

    place: str
    approximate_bm25: bool

    def create(self, name: str, record: Record) -> None:
        """An empty collection with this record; one that is there stays as it is."""
        ...

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """Write rows, in place of those of the same numbers; they are searched once this returns."""
        ...

    def search(self, name: str, query: F32 | Words, depth: int) -> Ranked:
        """Numbers and scores of the best rows: by inner product with a unit vector, [dimension], or by BM25."""
        ...

    def count(self, name: str) -> int:
        """How many rows there are."""
        ...

    def drop(self, name: str) -> None:
        """Remove the collection, if it is there."""
        ...

    def record(self, name: str) -> Record | None:
        """The record of a collection; None where there is no such collection."""
        ...

    def rows(self, name: str, numbers: Sequence[int]) -> list[Row]:
        """Those of these rows that are there, by number, without words and weights."""
        ...

    def served(self, alias: str) -> str | None:
        """The collection under an alias; None where there is none."""
        ...

    def serve(self, alias: str, name: str) -> None:
        """Point the alias at a collection, at once for everybody who searches."""
        ...


def open_store(address: StoreAddress) -> Store:
    """The store at an address. Raises EngineError where it does not answer as one, ResourceError where its package is
    not installed."""
    if address.kind == "milvus":
        from slipway.rag.stores.milvus import MilvusStore

        return MilvusStore(address)
    if address.kind == "elasticsearch":
        from slipway.rag.stores.elasticsearch import ElasticsearchStore

        return ElasticsearchStore(address)
    from slipway.rag.stores.faiss_folder import FaissFolder

    return FaissFolder(address)


def ranked(pairs: Sequence[tuple[int, float]], depth: int) -> Ranked:
    """A ranking in the order of an index: best first, ties by row."""
    return sorted(pairs, key=lambda one: (-one[1], one[0]))[:depth]
