"""Stage `index`: one directory with digests and probes."""

from __future__ import annotations

from pathlib import Path

from slipway.rag.search import open_index
from tests.support.rag_stages import chain


def test_an_index_names_what_it_was_made_of(tmp_path: Path) -> None:
    one = chain(tmp_path)
    made = one.index()
    opened = open_index(made.path)
    assert opened.about["corpus"] == one.corpus().digest
    assert opened.about["chunks"] == one.chunks().digest
    assert opened.about["embedder"]["digest"] == one.vectors().read_json("embedder.json")["digest"]
    assert made.summary["chunks"] == len(opened.chunks)
    assert made.summary["embedded_tokens"] == one.vectors().summary["embedded_tokens"]


def test_an_index_without_vectors_costs_no_embedding(tmp_path: Path) -> None:
    made = chain(tmp_path).index(vectors=False)
    assert made.summary["embedded_tokens"] == 0
    assert open_index(made.path).vectors is None
