"""An index on disk: what it holds, and that a change of any part shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slipway.errors import StateError
from slipway.rag.chunking import Chunk
from slipway.rag.documents import Document
from slipway.rag.index import build, probe_texts, read, replay, same_ranking
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)


def test_an_index_reads_back_with_its_probes(index: Path) -> None:
    again = read(index)
    assert len(again.chunks) == 32 == len(again.about["probes"]) == again.vectors.ntotal
    assert replay(again) == []
    assert again.text(0) == faq.paragraph(0, "sort")
    assert set(again.about["top"]) == {"bm25", "dense"}
    assert all(len(top) == 10 for top in again.about["top"]["dense"])
    exact = again.vectors.reconstruct_n(0, 32) @ again.probe_vectors.T
    rows, scores = zip(*again.nearest(again.probe_vectors, 3)[5], strict=True)
    assert np.allclose(scores, np.sort(exact[:, 5])[::-1][:3], atol=1e-6)  # equal texts tie: their order is by row, and
    assert np.allclose(scores, exact[list(rows), 5], atol=1e-6)  # in the product here by its last bit


def test_shuffled_vectors_show_in_the_probes(index: Path) -> None:
    import faiss

    flat = faiss.read_index(str(index / "vectors.faiss"))
    rows = flat.reconstruct_n(0, 32)
    spoiled = faiss.IndexFlatIP(16)
    spoiled.add(rows[np.random.default_rng(0).permutation(32)])
    faiss.write_index(spoiled, str(index / "vectors.faiss"))
    problems = replay(read(index))
    assert len(problems) > 20 and problems[0].startswith("dense, probe 'The word0sort is about")


def test_changed_text_shows_in_the_lexical_probes(index: Path) -> None:
    import bm25s

    from slipway.rag.lexical import LexicalIndex

    texts = [f"other words {n}" for n in range(32)]
    LexicalIndex.build(texts).save(index / "bm25")
    assert bm25s
    assert replay(read(index))[0].startswith("bm25, probe")


def test_files_that_do_not_fit_are_refused(index: Path) -> None:
    lines = (index / "chunks.jsonl").read_text().splitlines(keepends=True)
    (index / "chunks.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(StateError, match="32 vectors of 16; expected 31 of 16"):
        read(index)
    (index / "vectors.faiss").write_bytes(b"nothing")
    with pytest.raises(StateError, match="a FAISS index"):
        read(index)
    (index / "index.json").unlink()
    with pytest.raises(StateError, match="slipway rag build"):
        read(index)


def test_chunks_that_repeat_are_refused(tmp_path: Path) -> None:
    chunk = Chunk("d", 0, 4, 0, 4, 1)
    with pytest.raises(StateError, match="chunk d:0-4: there twice"):
        build(tmp_path, [Document("d", "text")], [chunk, chunk], None, {})


def test_an_index_without_vectors(tmp_path: Path) -> None:
    index = read(faq.built_index(tmp_path / "i", None, cache=tmp_path))
    assert index.vectors is None and replay(index) == []
    assert set(json.loads((tmp_path / "i/index.json").read_text())["top"]) == {"bm25"}


def test_probes_are_spread_and_short() -> None:
    texts = [f"{n} " + "word " * 20 for n in range(100)]
    probes = probe_texts(texts)
    assert len(probes) == 32 and probes[1] == "3" + " word" * 11
    assert probe_texts(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("ours", "same"),
    [
        ([[1, 0.9], [2, 0.5], [3, 0.4]], True),
        ([[1, 0.90001], [2, 0.5], [3, 0.4]], True),
        ([[1, 0.9], [2, 0.5], [7, 0.40001]], True),  # a tie at the edge
        ([[1, 0.9], [7, 0.5], [3, 0.4]], False),
        ([[1, 0.8], [2, 0.5], [3, 0.4]], False),
        ([[1, 0.9], [2, 0.5]], False),
    ],
)
def test_rankings_agree_but_for_ties(ours: list[list[float]], same: bool) -> None:
    assert same_ranking(ours, [[1, 0.9], [2, 0.5], [3, 0.4]]) is same
    assert same_ranking([], [])
