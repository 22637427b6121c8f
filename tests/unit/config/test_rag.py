"""Section `rag`: strategies by their kind, embedders that are whole, and what decides a vector."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slipway.config.rag import EmbedderConfig, FixedStrategy, RagConfig, WindowStrategy


def test_strategies_are_told_by_their_kind() -> None:
    config = RagConfig.model_validate({"strategies": {"w": {"kind": "sentence-window", "sentences": 1}}})
    assert config.strategies == {"w": WindowStrategy(sentences=1)}
    assert {one.kind for one in RagConfig().strategies.values()} == {
        "fixed",
        "recursive",
        "semantic",
        "sentence-window",
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strategies": {}}, "at least 1"),
        ({"strategies": {"x": {"kind": "magic"}}}, "magic"),
        ({"strategies": {"x": {"kind": "fixed", "tokens": 32, "overlap": 32}}}, "smaller than a chunk"),
        ({"strategies": {"x": {"kind": "recursive", "overlap": 3}}}, "overlap"),
        ({"retrievers": ["bm25", "bm25"]}, "names one twice"),
        ({"retrievers": []}, "at least 1"),
        ({"embedder": {"source": "directory"}}, "needs `directory`"),
        ({"embedder": {"source": "url", "url": "http://x"}}, "needs `url` and `model`"),
        ({"choose": {"prefer": ["beauty"]}}, "embedded_tokens"),
    ],
)
def test_what_does_not_hold_together_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RagConfig.model_validate(values)


def test_a_key_holds_what_decides_a_vector_and_not_where_it_is_made() -> None:
    package = EmbedderConfig()
    assert package.key_document() == EmbedderConfig(threads=3).key_document()
    assert package.key_document() != EmbedderConfig(query_prefix="q: ").key_document()
    here, there = (EmbedderConfig(source="directory", directory=name) for name in "ab")
    assert here.key_document() == there.key_document()
    assert "package" not in here.key_document()
    served = [EmbedderConfig(source="url", url=f"http://{name}", model="m") for name in "ab"]
    assert served[0].key_document() == served[1].key_document()
    assert FixedStrategy().key_document() == {"kind": "fixed", "tokens": 256, "overlap": 32}
