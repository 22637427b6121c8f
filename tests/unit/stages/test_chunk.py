"""Stage `chunk`: chunks of each strategy, measured in the embedder's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.rag.stored import documents_of, searched_texts, stored_chunks
from tests.support.rag_stages import chain


@pytest.mark.parametrize("strategy", ["fixed", "semantic", "window"])
def test_chunks_are_pieces_of_the_documents(tmp_path: Path, strategy: str) -> None:
    one = chain(tmp_path)
    made = one.chunks(strategy)
    chunks, documents = stored_chunks(made), documents_of(one.corpus())
    texts = searched_texts(documents, chunks)
    assert all(text in documents[int(chunk.document[1:])].text for text, chunk in zip(texts, chunks, strict=True))
    assert made.summary["chunks"] == len(chunks) > 8
    assert made.summary["context_tokens"] == sum(chunk.tokens for chunk in chunks)
    assert made.summary["strategy"]["kind"] == one.config.rag.strategies[strategy].kind


def test_sentences_of_semantic_chunks_are_remembered(tmp_path: Path) -> None:
    chain(tmp_path).chunks("semantic")
    assert list((tmp_path / "cache/vectors").glob("*-sentence/*.npz"))
