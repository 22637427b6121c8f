"""Retrieval in the plan of a run: none without an arm, its stages before training, and what the gate waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import Config
from slipway.config.rag import RagConfig
from slipway.deployment.promotion import promote
from slipway.deployment.state import stop
from slipway.errors import DataError
from slipway.ops.chain import retrieval_calls as calls
from slipway.ops.chain.known import UNMADE
from slipway.ops.chain.walk import PlannedStage, walk
from slipway.store.store import Store
from tests.support import faq
from tests.support.made_chain import make_chain, sealed
from tests.support.searched import searchable, searched_verdict
from tests.support.target import JSON_ANSWER, make_data, make_engine, target_params

STRATEGIES = {"one": {"kind": "fixed", "tokens": 24, "overlap": 4}, "two": {"kind": "recursive", "tokens": 40}}


def with_rag(config: Config, folder: Path, **values: Any) -> Config:
    faq.write_corpus(folder / "docs")
    embedder = {"source": "directory", "directory": str(folder / "embedder")}
    given = {"corpus": str(folder / "docs"), "strategies": STRATEGIES, "embedder": embedder, **values}
    return config.model_copy(update={"rag": RagConfig.model_validate(given)})


def walked(config: Config, root: Path) -> dict[str, PlannedStage]:
    return {stage.title: stage for stage in walk(config, root, lambda _: {}, []).stages}


def test_a_run_without_an_arm_has_no_stage_of_retrieval(config: Config, tmp_path: Path) -> None:
    assert not [
        title for title in walked(with_rag(config, tmp_path), tmp_path) if "corpus" in title or "index" in title
    ]


def test_an_arm_stands_before_training_and_the_gate_reads_it(config: Config, tmp_path: Path) -> None:
    stages = walked(with_rag(config, tmp_path, arm="two/dense"), tmp_path)
    titles = list(stages)
    made = ["corpus", "chunk two", "embed two", "index two", "search_eval two"]
    assert titles[2:8] == [*made, "train"]
    assert (stages["corpus"].state, stages["chunk two"].state) == ("runs", "follows")
    assert "search" in stages["gate"].why
    assert "embed two" not in walked(with_rag(config, tmp_path, arm="two/bm25"), tmp_path)


def test_what_retrieval_made_is_reused_and_the_gate_is_not(config: Config, tmp_path: Path) -> None:
    config = with_rag(config, tmp_path, arm="one/bm25")
    make_chain(config, tmp_path)  # of a run without retrieval: its verdict has another key
    store, arm = Store(Path(config.store.root)), calls.of_arm(config)
    corpus = sealed(store, calls.corpus(arm, tmp_path), {"summary.json": '{"characters": 9, "questions": 9}'})
    chunks = sealed(store, calls.chunk(arm, "one", corpus), {"summary.json": "{}"})
    index = sealed(store, calls.index(arm, "one", corpus, chunks), {"summary.json": "{}"})
    sealed(store, calls.search_eval(arm, "one", index, corpus), {"summary.json": "{}"})
    stages = walked(config, tmp_path)
    assert [title for title, stage in stages.items() if stage.state != "reused"] == ["gate"]
    assert stages["gate"].state == "runs"


def test_a_choice_follows_every_strategy(config: Config, tmp_path: Path) -> None:
    stages = walked(with_rag(config, tmp_path, arm="choose"), tmp_path)
    titles = list(stages)
    assert titles[2] == "corpus" and titles.index("choose") == titles.index("train") - 1
    assert {"embed one", "embed two", "search_eval one", "search_eval two"} <= set(titles)
    assert "choice" in stages["gate"].why and stages["choose"].state == "follows"


def test_answers_wait_for_the_engine_and_the_index_and_the_gate_for_them(config: Config, tmp_path: Path) -> None:
    stages = walked(with_rag(config, tmp_path, arm="one/bm25", answers={}), tmp_path)
    titles = list(stages)
    assert titles[-2:] == ["answer_eval candidate", "gate"]
    assert stages["answer_eval candidate"].why == "made anew: engine, index, corpus"
    assert "answers" in stages["gate"].why
    assert "answer_eval candidate" in walked(with_rag(config, tmp_path, arm="choose", answers={}), tmp_path)
    assert "answer_eval candidate" not in walked(with_rag(config, tmp_path, arm="choose"), tmp_path)


def test_the_champions_index_is_measured_before_the_gate(config: Config, tmp_path: Path) -> None:
    deploy = target_params(config.deploy.root)
    config = with_rag(config.model_copy(update={"deploy": deploy}), tmp_path, arm="one/bm25")
    store = Store(Path(config.store.root))
    engine, index = make_engine(store, {"answer": JSON_ANSWER}), searchable(store, 2)
    try:
        promote(engine, searched_verdict(store, engine, index), make_data(store), {}, deploy, model=config.line)
        stages = walked(config, tmp_path)
        made = walk(config, tmp_path, lambda _: {}, [])
    finally:
        stop(deploy)
    assert list(stages)[-2:] == ["search_eval champion", "gate"]
    assert stages["search_eval champion"].why == "made anew: corpus"
    assert "search_champion" in stages["gate"].why
    assert made.index == UNMADE


def test_a_corpus_that_is_not_there_refuses_the_run(config: Config, tmp_path: Path) -> None:
    config = with_rag(config, tmp_path, arm="one/bm25", corpus=str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone"):
        walk(config, tmp_path, lambda _: {}, [])
