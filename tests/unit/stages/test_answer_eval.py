"""The stage that asks a served model with retrieved text, on a server whose answers are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import parse
from slipway.errors import DataError, StateError
from slipway.evaluation.metric import entries, read_items, read_metrics
from slipway.pipeline.workspace import Workspace
from slipway.stages.answer_eval import PARTIAL, answer_eval, key_extra, params_of
from slipway.stages.corpus import params_of as corpus_params
from slipway.store.artifacts import Engine, Evaluation
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.support.rag_stages import Chain, chain
from tests.support.scripted_server import bundle

# The server answers "say TEXT" with TEXT
ECHO, REFUSE = "say {passages} [1] {question}", "say I do not know. {question}{passages}"
ALL = ["retrieved", "without", "closed", "gold"]


def answered(one: Chain, prompt: str, index: Any = None, corpus: Any = None, **answers: Any) -> Evaluation:
    """The stage over the index of the chain, by BM25: each paragraph has a word that no other has."""
    folder = one.folder
    section = {"items": 6, "context_tokens": 64, "prompt": prompt, **answers}
    rag = one.config.rag.model_validate({**one.config.rag.model_dump(), "answers": section})
    params = params_of(one.config.model_copy(update={"rag": rag}), "bm25")
    if not (folder / "engine").exists():
        seal(bundle(folder / "engine"), Engine.kind, "k", {})
    for name in ("out", "work"):
        (folder / name).mkdir(exist_ok=True)
    space = Workspace(folder / "out", folder / "work", folder / "cache", Progress())
    answer_eval(
        load(Engine, folder / "engine"), index or one.index(vectors=False), corpus or one.corpus(), params, space
    )
    seal(folder / "out", Evaluation.kind, "k", {})
    return load(Evaluation, folder / "out")


def test_a_model_that_repeats_its_passages_answers_and_cites_and_does_not_refuse(tmp_path: Path) -> None:
    made = answered(chain(tmp_path), ECHO, arms=ALL)
    items, metrics = read_items(made), entries(read_metrics(made))
    assert len(items) == metrics["answer_f1"]["n"] == 6
    assert metrics["answer_f1"]["value"] > 0.4 > metrics["answer_f1_closed"]["value"]
    assert metrics["answer_cites"]["value"] == 1.0, "the first passage is of the right document"
    assert metrics["answer_refuses"]["value"] == metrics["answer_refuses_known"]["value"] == 0.0
    assert set(items[0]["arms"]) == set(ALL)
    assert not set(items[0]["arms"]["without"]["passages"]) & set(items[0]["documents"])
    assert made.summary["questions"] == 6 and (tmp_path / "work" / PARTIAL).is_file()


def test_a_model_that_always_refuses_is_right_only_where_nothing_answers(tmp_path: Path) -> None:
    metrics = entries(read_metrics(answered(chain(tmp_path), REFUSE)))
    assert metrics["answer_refuses"]["value"] == metrics["answer_refuses_known"]["value"] == 1.0
    assert metrics["answer_supported"]["value"] is None and metrics["answer_cites"]["value"] == 0.0
    assert metrics["answer_f1_gold"]["value"] is None, "an arm that was not asked"


def test_an_index_that_was_changed_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    one = chain(tmp_path)
    index = one.index(vectors=False)
    (index.path / "chunks.jsonl").write_text("")
    with pytest.raises(StateError, match="sealed"):
        answered(one, ECHO, index)
    assert not (tmp_path / "work/server").exists()


def test_a_corpus_without_questions_that_report_is_refused(tmp_path: Path) -> None:
    one = chain(tmp_path)
    index = one.index(vectors=False)
    (tmp_path / "data/questions.jsonl").unlink()
    corpus = one.make("corpus", corpus_params(one.config, tmp_path, needs_questions=False))
    with pytest.raises(DataError, match="no question that reports"):
        answered(one, ECHO, index, corpus)


def test_the_key_holds_what_decides_answers(tmp_path: Path) -> None:
    def key(retriever: Any = "dense", **more: Any) -> Any:
        return params_of(parse({"rag": {"answers": {}}, **more}, "a test"), retriever).key_document()

    assert key() == key(serving={"name": "elsewhere"})
    assert key() != key("bm25")
    assert key() != key(rag={"answers": {"refusal": "unknown"}})
    directory = {"rag": {"answers": {}, "embedder": {"source": "directory", "directory": str(tmp_path)}}}
    assert set(key_extra(params_of(parse(directory, "a test"), "dense"))) == {"embedder"}
