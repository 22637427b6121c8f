"""An index searched in a store: every retriever ranks as it does here."""

from __future__ import annotations

from pathlib import Path

from slipway.config.store_address import store_address
from slipway.rag.embedder import open_embedder
from slipway.rag.search import Searcher, open_index
from slipway.rag.stores.faiss_folder import FaissFolder
from slipway.rag.stores.push import push
from slipway.rag.stores.through import lexical_of, through
from tests.support import faq
from tests.support.pico_embedder import pico_embedder
from tests.support.store_contract import digest_of, quiet


def test_each_retriever_ranks_in_a_store_as_in_the_index(tmp_path: Path) -> None:
    params = pico_embedder(tmp_path / "model")
    path = faq.built_index(tmp_path / "index", params, cache=tmp_path)
    store, index = FaissFolder(store_address(f"faiss://{tmp_path}/store")), open_index(path)
    held = push(index, digest_of(path), store, "docs", quiet)
    embedder = open_embedder(params, tmp_path)
    here, there = Searcher(index, embedder), Searcher(through(index, store, held.collection), embedder)
    for retriever in ("bm25", "dense", "hybrid"):
        for question in ("what is word2hash?", "how does python sort and sort a list", "zebra"):
            ours, theirs = here.search(retriever, question, 5), there.search(retriever, question, 5)
            assert [one.row for one in ours] == [one.row for one in theirs]
            assert [one.text for one in ours] == [one.text for one in theirs]


def test_weights_add_up_to_the_scores(tmp_path: Path) -> None:
    index = open_index(faq.built_index(tmp_path / "index", None, cache=tmp_path))
    lexical = lexical_of(index)
    weights, question = lexical.weights(), lexical.question("sort, sort the word1hash of python!")
    sums = [sum(times * row.get(word, 0) for word, times in question.counts.items()) for row in weights]
    ranking = lexical.search("sort, sort the word1hash of python!", 40)
    assert question.counts and len(ranking) == 32
    assert all(abs(sums[row] - score) < 1e-5 for row, score in ranking)
