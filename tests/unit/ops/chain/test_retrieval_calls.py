"""The calls of retrieval: what decides their keys, and what an index costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import DataError
from slipway.ops.chain import retrieval_calls as calls
from slipway.store.key import key_of
from tests.support.rag_stages import chain


def test_an_arm_is_made_under_the_keys_of_the_comparison(tmp_path: Path) -> None:
    """What `slipway rag compare` made of corpus, chunks, vectors and index serves a run; its evaluation is of all
    retrievers, the run's of one."""
    everything = chain(tmp_path)
    corpus, chunks, vectors = everything.corpus(), everything.chunks(), everything.vectors()
    rag = everything.config.rag.model_copy(update={"arm": "fixed/hybrid"})
    run = calls.of_arm(everything.config.model_copy(update={"rag": rag}))
    assert list(run.rag.strategies) == ["fixed"] and calls.with_vectors(run)
    keys = []
    for config in (everything.config, run):
        made = [
            calls.corpus(config, tmp_path),
            calls.chunk(config, "fixed", corpus),
            calls.embed(config, "fixed", corpus, chunks),
            calls.index(config, "fixed", corpus, chunks, vectors),
        ]
        assert [call.title for call in made] == ["corpus", "chunk fixed", "embed fixed", "index fixed"]
        keys.append([key_of(call.key_document()) for call in made])
    assert keys[0] == keys[1]
    index = everything.index()
    evaluations = [calls.search_eval(config, "fixed", index, corpus) for config in (everything.config, run)]
    assert len({key_of(call.key_document()) for call in evaluations}) == 2
    assert evaluations[1].work and evaluations[1].work.amount == corpus.summary["questions"]


def test_words_alone_need_no_vectors(tmp_path: Path) -> None:
    one = chain(tmp_path, retrievers=["bm25"])
    assert not calls.with_vectors(one.config)
    assert calls.index(one.config, "fixed", one.corpus(), one.chunks()).inputs["vectors"] is None


def test_what_an_index_costs_holds_what_cutting_embedded(tmp_path: Path) -> None:
    one = chain(tmp_path)
    rows = {
        name: calls.evaluated_index(one.config, name, one.chunks(name), one.index(name), one.evaluated(name))
        for name in ("fixed", "semantic")
    }
    assert rows["fixed"].costs["chunking_tokens"] == 0
    assert rows["semantic"].costs["chunking_tokens"] == one.chunks("semantic").summary["corpus_tokens"] > 0
    assert rows["fixed"].costs["chunks"] == one.index().summary["chunks"]
    made = {name: (one.chunks(name), one.index(name), one.evaluated(name)) for name in ("fixed", "semantic")}
    call = calls.choose(one.config, one.corpus(), made)
    assert [row.strategy for row in call.params.evaluations] == ["fixed", "semantic"]  # type: ignore[attr-defined]
    assert calls.winner(one.choice("fixed", "semantic"))[0] in ("fixed", "semantic")


def test_a_corpus_that_is_not_there_is_refused(tmp_path: Path) -> None:
    one = chain(tmp_path)
    rag = one.config.rag.model_copy(update={"corpus": "elsewhere"})
    with pytest.raises(DataError, match="elsewhere"):
        calls.corpus(one.config.model_copy(update={"rag": rag}), tmp_path)
