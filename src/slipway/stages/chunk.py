"""Chunk: corpus -> chunks of one strategy, by exact character offsets, measured in the embedder's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.config.rag import EmbedderConfig, FixedStrategy, RecursiveStrategy, SemanticStrategy, WindowStrategy
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Chunks, Corpus

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.rag.chunking import SentenceVectors

OUTPUT = Chunks


class ChunkParams(Section):
    """One strategy, and the embedder whose tokens are counted (and that `semantic` asks)."""

    strategy: FixedStrategy | RecursiveStrategy | SemanticStrategy | WindowStrategy = Field(
        discriminator="kind", description="How to cut."
    )
    embedder: EmbedderConfig = Field(description="Section `rag.embedder`.")


def params_of(config: Config, strategy: str) -> ChunkParams:
    """This stage's params for the strategy of that name."""
    from slipway.rag.stored import absolute

    return ChunkParams(strategy=config.rag.strategies[strategy], embedder=absolute(config.rag.embedder))


def key_extra(params: ChunkParams) -> dict[str, str]:
    """Files of a model directory."""
    from slipway.rag.stored import embedder_extra

    return embedder_extra(params.embedder)


def chunk(corpus: Corpus, params: ChunkParams, space: Workspace) -> None:
    """Write `chunks.jsonl` and `summary.json`."""
    from slipway.rag.chunking import chunks_of
    from slipway.rag.embedder_files import TOKENIZER, embedder_files
    from slipway.rag.stored import CHUNKS, documents_of, write_document, write_lines
    from slipway.rag.tokens import ruler, tokenizer_of
    from slipway.system.files import sha256_bytes

    files = embedder_files(params.embedder, space.cache)
    content = files.required(TOKENIZER)
    tokenizer, documents = tokenizer_of(content), documents_of(corpus)
    vectors = _sentence_vectors(params, space) if params.strategy.kind == "semantic" else None
    chunks, total = [], 0
    for done, document in enumerate(documents, 1):
        measured = ruler(document.text, tokenizer)
        total += measured.tokens
        chunks += chunks_of(document, measured, params.strategy, vectors)
        space.progress.update("chunk", done, len(documents), "documents")
    write_lines(space.out / CHUNKS, [one.to_json() for one in chunks])
    summary: dict[str, Any] = {
        "strategy": params.strategy.model_dump(mode="json"),
        "chunks": len(chunks),
        "corpus_tokens": total,
        "context_tokens": sum(one.tokens for one in chunks),
        "longest_tokens": max((one.tokens for one in chunks), default=0),
        "tokenizer": sha256_bytes(content),
    }
    write_document(space.out / "summary.json", summary)


def _sentence_vectors(params: ChunkParams, space: Workspace) -> SentenceVectors:
    """Sentences to vectors, remembered in the cache."""
    from slipway.rag.embedder import open_embedder
    from slipway.rag.vector_cache import VectorCache

    embedder = open_embedder(params.embedder, space.cache)
    cache = VectorCache(space.cache, embedder.facts.digest, "sentence")
    return lambda texts: cache.vectors(
        texts, embedder.passages, lambda done, of: space.progress.update("embed", done, of, "sentences")
    )
