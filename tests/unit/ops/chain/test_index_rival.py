"""The champion's index beside a candidate's, on a real target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.config.rag import EmbedderConfig
from slipway.deployment.promotion import promote
from slipway.deployment.state import stop
from slipway.ops.chain.index_rival import index_rival
from slipway.store.artifacts import Engine, SearchIndex, Verdict
from slipway.store.store import Store
from tests.support.searched import searchable, searched
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, target_params

EMBEDDER = EmbedderConfig(query_prefix="query: ")


class Scene:
    """A config with a target of its own, and releases of its line."""

    def __init__(self, config: Config) -> None:
        self.config = config.model_copy(update={"deploy": target_params(config.deploy.root)})
        self.store = Store(Path(config.store.root))

    def ship(self, documents: int, line: str = "", version: int = 1) -> tuple[Engine, SearchIndex]:
        """Promote an engine with the index over that many documents; without one for 0."""
        engine = make_engine(self.store, {"answer": JSON_ANSWER, "v": version})
        index = searchable(self.store, documents or 1)
        verdict: Verdict = make_verdict(self.store, engine)
        if documents:
            search = searched(self.store, index, embedder=EMBEDDER.model_dump(mode="json"))
            verdict = make_verdict(self.store, engine, search=search)
        line = line or self.config.line
        promote(engine, verdict, make_data(self.store), {}, self.config.deploy, model=line)
        return engine, index


@pytest.fixture
def scene(config: Config) -> Iterator[Scene]:
    made = Scene(config)
    yield made
    stop(made.config.deploy)


def test_another_index_that_serves_is_the_rival_as_its_release_searches_it(scene: Scene) -> None:
    engine, serving = scene.ship(2)
    rival = index_rival(scene.config, engine, "d" * 64, "hybrid")
    assert rival is not None
    assert (rival.index.digest, rival.carried.retriever, rival.embedder) == (serving.digest, "bm25", EMBEDDER)
    other_way = index_rival(scene.config, make_engine(scene.store, {"v": 9}), serving.digest, "hybrid")
    assert other_way is not None, "the same index, searched otherwise"
    assert index_rival(scene.config, make_engine(scene.store, {"v": 9}), serving.digest, "bm25") is None


def test_the_release_before_is_the_rival_of_what_serves_already(scene: Scene) -> None:
    _, first = scene.ship(2)
    engine, second = scene.ship(3)
    rival = index_rival(scene.config, engine, second.digest, "bm25")
    assert rival is not None and rival.index.digest == first.digest


@pytest.mark.parametrize("documents", [0, 2])
def test_nothing_is_a_rival_without_an_index_or_of_another_line(scene: Scene, documents: int) -> None:
    assert index_rival(scene.config, make_engine(scene.store, {"v": 9}), "d" * 64, "bm25") is None, "nothing serves"
    engine, _ = scene.ship(documents, line="another" if documents else "")
    assert index_rival(scene.config, engine, "d" * 64, "bm25") is None


def test_before_a_target_is_chosen_there_is_none(scene: Scene) -> None:
    scene.ship(2)
    unchosen = scene.config.deploy.model_copy(update={"target": "auto"})
    config = scene.config.model_copy(update={"deploy": unchosen})
    assert index_rival(config, make_engine(scene.store, {"v": 9}), "d" * 64, "bm25") is None
