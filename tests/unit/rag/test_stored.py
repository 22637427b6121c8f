"""What stages read of each other: as it was written; and what a key must know of a model directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.rag import EmbedderConfig
from slipway.errors import StateError
from slipway.rag.chunking import Chunk
from slipway.rag.stored import absolute, documents_of, embedder_extra, searched_texts, stored_chunks, write_lines
from slipway.store.artifacts import Chunks, Corpus


def test_lines_come_back(tmp_path: Path) -> None:
    chunk = Chunk("ä", 1, 3, 0, 4, 2)
    write_lines(tmp_path / "chunks.jsonl", [chunk.to_json()])
    write_lines(tmp_path / "documents.jsonl", [{"id": "ä", "text": "0123\u2028\n"}])
    documents = documents_of(Corpus(uri=str(tmp_path), digest="d"))
    assert documents[0].text == "0123\u2028\n"
    assert stored_chunks(Chunks(uri=str(tmp_path), digest="d")) == [chunk]
    assert searched_texts(documents, [chunk]) == ["12"]
    (tmp_path / "chunks.jsonl").write_text("{")
    with pytest.raises(StateError):
        stored_chunks(Chunks(uri=str(tmp_path), digest="d"))


def test_a_model_directory_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a").write_text("x")
    params = EmbedderConfig(source="directory", directory="m")
    before = embedder_extra(params)
    assert absolute(params).directory == str(tmp_path / "m")
    (tmp_path / "m/a").write_text("xy")
    assert embedder_extra(params) != before
    assert embedder_extra(EmbedderConfig()) == {}
    assert absolute(EmbedderConfig()) == EmbedderConfig()
