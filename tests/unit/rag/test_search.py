"""Searching: an index that changed, or another embedder of the same dimension, is refused before any search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipway.errors import ConfigError, StateError
from slipway.rag.embedder import open_embedder
from slipway.rag.search import Searcher, check_embedder, fuse, open_index
from tests.support import faq
from tests.support.pico_embedder import pico_embedder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)


def test_each_retriever_ranks(index: Path, tmp_path: Path) -> None:
    searcher = Searcher(open_index(index), open_embedder(pico_embedder(tmp_path / "model"), tmp_path))
    best = searcher.search("bm25", "what is word2hash?", 3)[0]
    assert (best.document, best.rank, best.ranks["bm25"]) == ("d2", 1, 1)
    assert best.text == faq.paragraph(2, "hash")
    dense = searcher.rank("dense", "perl is slow", 40)
    assert len(dense) == 32 and dense == sorted(dense, key=lambda one: -one[1])
    hybrid = searcher.search("hybrid", "what is word2hash?", 5)
    assert hybrid[0].document == "d2" and set(hybrid[0].ranks) == {"bm25", "dense"}
    assert (
        searcher.rank("hybrid", "word2hash", 5)
        == fuse([searcher.rank("bm25", "word2hash", 5), searcher.rank("dense", "word2hash", 5)])[:5]
    )


def test_rank_fusion_by_hand() -> None:
    fused = fuse([[(7, 9.0), (3, 8.0)], [(3, 0.2), (5, 0.1)]])
    assert [row for row, _ in fused] == [3, 7, 5]
    assert fused[0][1] == pytest.approx(1 / 62 + 1 / 61)


def test_another_embedder_of_the_same_dimension_is_refused(index: Path, tmp_path: Path) -> None:
    other = open_embedder(pico_embedder(tmp_path / "other", seed=5), tmp_path)
    opened = open_index(index)
    assert other.queries(["x"]).shape[1] == opened.probe_vectors.shape[1]
    with pytest.raises(StateError, match=r"digest [0-9a-f]{16}; expected .*digest [0-9a-f]{16}.*slipway rag build"):
        Searcher(opened, other)
    longer = pico_embedder(tmp_path / "model").model_copy(update={"max_length": 20})
    with pytest.raises(StateError, match="digest"):
        Searcher(opened, open_embedder(longer, tmp_path))


def test_an_embedder_that_answers_as_another_is_refused_by_its_probes(index: Path, tmp_path: Path) -> None:
    """A server keeps its model's name when the model is swapped."""
    ours, other = open_embedder(pico_embedder(tmp_path / "model"), tmp_path), pico_embedder(tmp_path / "o", seed=5)
    swapped = open_embedder(other, tmp_path)
    swapped.facts = ours.facts
    with pytest.raises(StateError, match=r"of cosine .*it answers as another model"):
        check_embedder(open_index(index), swapped)


@pytest.mark.parametrize("name", ["chunks.jsonl", "documents.jsonl", "vectors.faiss", "index.json", "probes.npy"])
def test_a_changed_byte_is_refused_at_opening(index: Path, name: str) -> None:
    content = bytearray((index / name).read_bytes())
    content[len(content) // 2] ^= 1
    (index / name).write_bytes(bytes(content))
    with pytest.raises(StateError, match=f"{name} has another sha256"):
        open_index(index)


def test_an_index_that_was_sealed_spoiled_is_refused_by_its_probes(tmp_path: Path) -> None:
    from slipway.store.artifacts import SearchIndex
    from slipway.store.store import seal

    path = faq.built_index(tmp_path / "index", pico_embedder(tmp_path / "model"), cache=tmp_path)
    probes = np.load(path / "probes.npy")
    np.save(path / "probes.npy", probes[::-1])
    (path / "manifest.json").unlink()
    seal(path, SearchIndex.kind, "k", {})
    with pytest.raises(StateError, match=r"probe\(s\) find other chunks"):
        open_index(path)


def test_retrievers_that_need_vectors_say_so(tmp_path: Path) -> None:
    path = faq.built_index(tmp_path / "i", None, cache=tmp_path)
    with pytest.raises(ConfigError, match="dense"):
        Searcher(open_index(path)).rank("dense", "x", 3)
    with pytest.raises(StateError, match="BM25 alone"):
        Searcher(open_index(path), open_embedder(pico_embedder(tmp_path / "m"), tmp_path))
