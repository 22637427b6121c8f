"""Embed: chunks -> unit vectors, those of texts that were embedded before out of the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from slipway.config.base import Section
from slipway.config.rag import EmbedderConfig
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Chunks, Corpus, Vectors

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Vectors
PROBES, EMBEDDER = "probes.npy", "embedder.json"


class EmbedParams(Section):
    """The embedder."""

    embedder: EmbedderConfig = Field(description="Section `rag.embedder`.")


def params_of(config: Config) -> EmbedParams:
    """This stage's params in a run."""
    from slipway.rag.stored import absolute

    return EmbedParams(embedder=absolute(config.rag.embedder))


def key_extra(params: EmbedParams) -> dict[str, str]:
    """Files of a model directory."""
    from slipway.rag.stored import embedder_extra

    return embedder_extra(params.embedder)


def embed(corpus: Corpus, chunks: Chunks, params: EmbedParams, space: Workspace) -> None:
    """Write `vectors.npy`, `probes.npy`, `embedder.json` and `summary.json`. Raises DataError naming the chunk whose
    vector is zero or not finite."""
    import numpy as np

    from slipway.rag.embedder import open_embedder
    from slipway.rag.index import probe_texts
    from slipway.rag.stored import documents_of, searched_texts, stored_chunks, write_document
    from slipway.rag.vector_cache import VectorCache

    pieces = stored_chunks(chunks)
    texts = searched_texts(documents_of(corpus), pieces)
    embedder = open_embedder(params.embedder, space.cache)
    cache = VectorCache(space.cache, embedder.facts.digest, "passage")
    vectors = cache.vectors(
        texts, embedder.passages, lambda done, of: space.progress.update("embed", done, of, "chunks")
    )
    np.save(space.out / "vectors.npy", vectors)
    np.save(space.out / PROBES, embedder.queries(probe_texts(texts)))
    facts = {**embedder.facts.to_json(), "digest": embedder.facts.digest, "dimension": int(vectors.shape[1])}
    write_document(space.out / EMBEDDER, facts)
    tokens = sum(len(one.ids) for one in embedder.tokenizer.encode_batch(texts, add_special_tokens=False))
    windows = embedder.facts.max_length - len(embedder.tokenizer.encode("").ids)
    longer = sum(len(one.ids) > windows for one in embedder.tokenizer.encode_batch(texts, add_special_tokens=False))
    space.progress.note(f"{cache.made} of {len(texts)} vectors made, the others known")
    summary = {
        "vectors": len(texts),
        "dimension": int(vectors.shape[1]),
        "embedded_tokens": tokens,
        "means_of_windows": longer,
        "window_tokens": windows,
    }
    write_document(space.out / "summary.json", summary)
