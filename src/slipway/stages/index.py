"""Index: corpus, chunks and vectors -> one directory that is searched, with probes that show when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Chunks, Corpus, SearchIndex, Vectors

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = SearchIndex


class IndexParams(Section):
    """What the index is called."""

    name: str = Field(description="The strategy's name in the config.")


def params_of(_: Config, strategy: str) -> IndexParams:
    """This stage's params for the strategy of that name."""
    return IndexParams(name=strategy)


def index(corpus: Corpus, chunks: Chunks, vectors: Vectors | None, params: IndexParams, space: Workspace) -> None:
    """Write the index of `slipway.rag.index`. Without vectors: BM25 alone."""
    import numpy as np

    from slipway.rag.index import build, replay
    from slipway.rag.stored import documents_of, stored_chunks, write_document

    pieces = stored_chunks(chunks)
    arrays = None
    if vectors is not None:
        arrays = (np.load(vectors.path / "vectors.npy"), np.load(vectors.path / "probes.npy"))
    about: dict[str, Any] = {
        "name": params.name,
        "strategy": chunks.summary["strategy"],
        "corpus": corpus.digest,
        "chunks": chunks.digest,
        "vectors": vectors.digest if vectors else None,
        "embedder": vectors.read_json("embedder.json") if vectors else None,
        "store": "faiss",
        "metric": "inner product of unit vectors",
    }
    made = build(space.out, documents_of(corpus), pieces, arrays, about)
    assert replay(made) == []
    summary = {
        "chunks": len(pieces),
        "indexed_tokens": chunks.summary["context_tokens"],
        "embedded_tokens": vectors.summary["embedded_tokens"] if vectors else 0,
        "means_of_windows": vectors.summary["means_of_windows"] if vectors else 0,
        "documents": len(made.documents),
    }
    write_document(space.out / "summary.json", summary)
