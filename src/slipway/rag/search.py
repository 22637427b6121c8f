"""Searching an index: opened with its digests and probes checked, and with the embedder that it was made with.

bm25     words
dense    inner product of unit vectors
hybrid   reciprocal rank fusion of both: score(row) = sum of 1 / (60 + rank)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from slipway.errors import ConfigError, StateError
from slipway.rag.index import Index, read, replay
from slipway.rag.lexical import Ranked
from slipway.store.manifest import read_manifest
from slipway.store.store import verify

if TYPE_CHECKING:
    from slipway.rag.embedder import Embedder

Retriever = Literal["bm25", "dense", "hybrid"]
RRF = 60
LIKE = 0.999  # cosine of a probe's vector now and when the index was built
_NEXT = "`slipway rag build` makes it anew"


@dataclass(frozen=True)
class Result:
    """One row of a ranking: where its text is from, the text that is given, and its score and ranks by retriever."""

    rank: int
    row: int
    document: str
    start: int
    end: int
    tokens: int
    score: float
    ranks: dict[str, int]
    text: str


def open_index(path: Path) -> Index:
    """The index in a sealed directory. Raises StateError when a byte differs from the manifest, or when a probe finds
    other rows than it did."""
    read_manifest(path)
    if problem := verify(path):
        raise StateError(f"index {path}", problem, "the files that were sealed", _NEXT)
    index = read(path)
    if problems := replay(index):
        shown = "\n".join(problems[:5])
        raise StateError(
            f"index {path}", f"{len(problems)} probe(s) find other chunks:\n{shown}", "the top tens of its build", _NEXT
        )
    return index


class Searcher:
    """An index with the embedder that it was made with; without one, BM25 alone."""

    def __init__(self, index: Index, embedder: Embedder | None = None) -> None:
        """Raises StateError for another embedder than the index's, before anything is searched: another digest, or
        the same name and other vectors for the probes."""
        self.index, self._embedder = index, embedder
        if embedder is not None:
            check_embedder(index, embedder)

    def rank(self, retriever: Retriever, question: str, depth: int) -> Ranked:
        """Rows and scores of the best chunks. Raises ConfigError where the retriever needs an embedder."""
        return self.rank_vectors(retriever, [question], depth, self.vectors(retriever, [question]))[0]

    def vectors(self, retriever: Retriever, questions: Sequence[str]) -> NDArray[np.float32] | None:
        """The questions' vectors, [n, dimension]; None for `bm25`."""
        if retriever == "bm25":
            return None
        if self._embedder is None or self.index.vectors is None:
            raise ConfigError("retriever", retriever, "bm25: this index or this search has no embedder", "use bm25")
        return self._embedder.queries(questions)

    def rank_vectors(
        self, retriever: Retriever, questions: Sequence[str], depth: int, vectors: NDArray[np.float32] | None
    ) -> list[Ranked]:
        """As `rank`, of several questions with their vectors."""
        lexical = [] if retriever == "dense" else [self.index.lexical.search(text, depth) for text in questions]
        if vectors is None:
            return lexical
        dense = self.index.nearest(vectors, depth)
        if retriever == "dense":
            return dense
        return [fuse([ours, theirs])[:depth] for ours, theirs in zip(lexical, dense, strict=True)]

    def search(self, retriever: Retriever, question: str, count: int, depth: int = 100) -> list[Result]:
        """The best `count` chunks with their text, and the rank that each retriever gave them."""
        ranking = self.rank(retriever, question, max(depth, count))[:count]
        parts = {"bm25": self.index.lexical.search(question, depth)}
        if retriever != "bm25":
            parts["dense"] = self.rank("dense", question, depth)
        ranks = {name: {row: rank for rank, (row, _) in enumerate(one, 1)} for name, one in parts.items()}
        return [self._result(at, row, score, ranks) for at, (row, score) in enumerate(ranking, 1)]

    def _result(self, rank: int, row: int, score: float, ranks: dict[str, dict[int, int]]) -> Result:
        chunk = self.index.chunks[row]
        given = {name: places[row] for name, places in ranks.items() if row in places}
        place: dict[str, Any] = {"document": chunk.document, "start": chunk.context_start, "end": chunk.context_end}
        return Result(rank, row, **place, tokens=chunk.tokens, score=score, ranks=given, text=self.index.text(row))


def fuse(rankings: Sequence[Ranked]) -> Ranked:
    """Reciprocal rank fusion; ties by row."""
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, 1):
            scores[row] += 1 / (RRF + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def check_embedder(index: Index, embedder: Embedder) -> None:
    """Raise StateError unless this is the embedder of the index: by its digest, then by the probes' vectors."""
    made = index.about.get("embedder")
    if made is None or index.probe_vectors is None:
        raise StateError(f"index {index.path}", "BM25 alone", "an index with vectors", _NEXT)
    digest = embedder.facts.digest
    if made["digest"] != digest:
        raise StateError(
            f"embedder of index {index.path}",
            f"{embedder.facts.name}, digest {digest[:16]}",
            f"{made['name']}, digest {made['digest'][:16]}, that made its vectors",
            "search with that embedder (rag.embedder), or `slipway rag build` with this one",
        )
    now = embedder.queries(index.about["probes"])
    if now.shape != index.probe_vectors.shape:
        raise StateError(
            f"embedder of index {index.path}",
            f"vectors of {now.shape[1]}",
            f"of {index.probe_vectors.shape[1]}",
            "check the server's model",
        )
    likeness = np.einsum("ij,ij->i", now, index.probe_vectors)
    if likeness.min() < LIKE:
        worst = int(likeness.argmin())
        probe = index.about["probes"][worst]
        raise StateError(
            f"embedder of index {index.path}",
            f"{embedder.facts.name} gives probe {probe!r} a vector of cosine {likeness.min():.3f}",
            f"at least {LIKE}: it answers as another model",
            "search with the model that made the index, or `slipway rag build` with this one",
        )
