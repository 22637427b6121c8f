"""What every store must do, asked of a real one: the same function for a folder, Milvus and Elasticsearch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipway.config.store_address import StoreAddress
from slipway.errors import StateError
from slipway.rag.index import Index, same_ranking, top_tens
from slipway.rag.search import open_index
from slipway.rag.stores.push import drop, push, verify
from slipway.rag.stores.store import Row, Store, open_store
from slipway.rag.stores.through import through
from slipway.store.manifest import read_manifest


def digest_of(path: Path) -> str:
    """The digest of a sealed index."""
    return str(read_manifest(path)["digest"])


def quiet(_done: int, _of: int) -> None:
    """No progress."""


def check_the_same_top_tens(index: Index, path: Path, store: Store, questions: list[str], vectors: np.ndarray) -> None:
    """Pushed, the store ranks unit vectors as FAISS does, and questions as BM25 of the index does where it computes
    with its weights."""
    held = push(index, digest_of(path), store, "contract", quiet)
    assert held.written == held.rows == store.count(held.collection) == len(index.chunks)
    stored = through(index, store, held.collection)
    for ours, theirs in zip(index.nearest(vectors, 10), stored.nearest(vectors, 10), strict=True):
        assert len(theirs) == 10 and same_ranking(theirs, ours)
    if store.approximate_bm25:
        assert held.bm25_agreement >= 0.9
        return
    tens = top_tens(stored, questions)["bm25"], top_tens(index, questions)["bm25"]
    assert any(tens[1])
    for theirs, ours in zip(*tens, strict=True):
        assert same_ranking(theirs, ours)


def check_pushes(index: Index, path: Path, address: StoreAddress) -> None:
    """A second push, by another process as it were, writes nothing; what was changed there shows and is mended."""
    store, digest = open_store(address), digest_of(path)
    first = push(index, digest, store, "pushes", quiet)
    again = push(index, digest, open_store(address), "pushes", quiet)
    assert (first.written, again.written) == (len(index.chunks), 0)
    assert store.served("pushes") == first.collection == again.collection
    vector = np.eye(1, index.probe_vectors.shape[1], dtype=np.float32)[0]
    wrong = Row(3, "d0", 0, 4, "text of somebody else", vector, ("word",), {0: 1.0})
    store.add(first.collection, [wrong])
    assert store.rows(first.collection, [3])[0].text == wrong.text
    with pytest.raises(StateError, match=r"1 row\(s\) lack or differ, the first is 3"):
        verify(index, digest, open_store(address), "pushes")
    mended = push(index, digest, open_store(address), "pushes", quiet)
    assert 0 < mended.written <= len(index.chunks)
    assert verify(index, digest, open_store(address), "pushes").rows == len(index.chunks)


def check_an_alias_moves(paths: tuple[Path, Path], store: Store) -> None:
    """Two indexes lie beside each other; the alias is the last one's, a served one is not dropped."""
    first, second = open_index(paths[0]), open_index(paths[1])
    digests = [digest_of(path) for path in paths]
    before = push(first, digests[0], store, "moves", quiet)
    after = push(second, digests[1], store, "moves", quiet)
    assert (before.former, after.former) == (None, before.collection)
    assert store.served("moves") == after.collection
    with pytest.raises(StateError, match=f"index {digests[1][:16]}.*expected index {digests[0][:16]}"):
        verify(first, digests[0], store, "moves")
    with pytest.raises(StateError, match="served as moves"):
        drop(digests[1], store, "moves")
    assert drop(digests[0], store, "moves") == before.collection
    assert store.record(before.collection) is None and store.count(after.collection) == len(second.chunks)
    with pytest.raises(StateError, match="not there"):
        drop(digests[0], store, "moves")
    assert store.served("nothing") is None


def check_rows_come_back(store: Store, index: Index) -> None:
    """Texts of every kind as they were; a row is replaced, not doubled; numbers that are not there are left out."""
    from slipway.rag.stores.push import record_for

    store.create("texts_1", record_for(index, "ab" * 32))
    store.create("texts_1", record_for(index, "ab" * 32))
    vectors = np.eye(4, index.probe_vectors.shape[1], dtype=np.float32)
    texts = ["", 'a "quoted" \\ line\n\ttab', "\u0130stanbul, \U0001f600, e\u0301", "x" * 20_000]
    rows = [
        Row(at, f"dir/\u00e4 {at}.md", at, at + 5, text, vector, ("some", "words"), {0: 0.5, 7: 0.25})
        for at, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    store.add("texts_1", rows)
    store.add("texts_1", rows[1:3])
    assert store.count("texts_1") == 4
    stored = store.rows("texts_1", [0, 1, 2, 3, 99])
    assert [row.text for row in stored] == texts
    assert all(ours.same(theirs) for ours, theirs in zip(rows, stored, strict=True))
    assert store.record("texts_1") == record_for(index, "ab" * 32) and store.record("texts_2") is None
    store.drop("texts_1")
    store.drop("texts_1")
    assert store.record("texts_1") is None


def check_words_alone(path: Path, store: Store) -> None:
    """An index without vectors is pushed, found by its words and verified."""
    index = open_index(path)
    held = push(index, digest_of(path), store, "wordsalone", quiet)
    assert through(index, store, held.collection).lexical.search("word1hash", 3)[0][0] == 11
    assert verify(index, digest_of(path), store, "wordsalone").rows == 32
