"""The index that was built last: searched, verified, described; refused when it or the embedder changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.config.load import Config, parse
from slipway.deployment.promotion import promote, rollback
from slipway.deployment.state import stop
from slipway.errors import ConfigError, StateError
from slipway.ops.searching import search, search_served, status, verified
from slipway.store.store import Store
from slipway.store.usage import INDEX_POINTER
from tests.support import faq
from tests.support.pico_embedder import pico_embedder
from tests.support.searched import searchable, searched_verdict
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, target_params


@pytest.fixture
def config(tmp_path: Path) -> Config:
    params = pico_embedder(tmp_path / "model")
    faq.built_index(tmp_path / "store/index/k", params, cache=tmp_path)
    (tmp_path / "store" / INDEX_POINTER).write_text("k bm25\n")
    store = {"root": str(tmp_path / "store"), "cache": str(tmp_path / "cache")}
    return parse({"rag": {"embedder": params.model_dump(mode="json")}, "store": store}, "a test")


def test_the_index_is_searched_by_each_retriever(config: Config) -> None:
    assert search(config, "word1list", "bm25", 3)[0].document == "d1"
    assert search(config, "word1list", None, 3)[0].ranks == {"bm25": 1}, "as chosen"
    assert len(search(config, "word1list", "dense", 3)) == 3
    assert search(config, "word1list", "hybrid", 1)[0].rank == 1
    with pytest.raises(ConfigError, match="one of bm25, dense, hybrid"):
        search(config, "x", "magic", 3)


def test_status_and_verification_say_what_it_is(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "store/index/k"
    assert status(config)["chunks"] == 32
    document = verified(path, config)
    assert document["verified"] == "digests, 32 probes, embedder"
    assert document["embedder"].startswith("model, digest ")
    pico_embedder(tmp_path / "model", seed=4)
    with pytest.raises(StateError, match="embedder of index"):
        verified(path, config)
    with pytest.raises(StateError, match="embedder of index"):
        search(config, "word1list", "dense", 3)
    assert search(config, "word1list", "bm25", 1), "words need no embedder"


def test_the_release_that_serves_decides_what_is_searched(config: Config, tmp_path: Path) -> None:
    store, params = Store(tmp_path / "store"), target_params(str(tmp_path / "target"))
    on_target = config.model_copy(update={"deploy": params})
    with pytest.raises(StateError, match="index of target local: nothing serves there"):
        search_served(on_target, "word1list", None, 3)
    engine, data = make_engine(store, {"answer": JSON_ANSWER}), make_data(store)
    try:
        for documents in (2, 4):
            promote(engine, searched_verdict(store, engine, searchable(store, documents)), data, {}, params, model="m")
        assert search_served(on_target, "word3list", None, 3)[0].document == "d3"
        rollback(params)
        assert search_served(on_target, "word3list", None, 3) == [], "the earlier index has two documents"
        bare = promote(engine, make_verdict(store, engine), data, {}, params, model="m")
        with pytest.raises(StateError, match=rf"{bare.name}, which serves, carries none"):
            search_served(on_target, "word1list", None, 3)
    finally:
        stop(params)


def test_an_index_that_is_gone_is_said(config: Config, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store/index/k")
    with pytest.raises(StateError, match="is gone"):
        status(config)
