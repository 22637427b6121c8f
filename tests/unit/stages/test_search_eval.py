"""Stage `search_eval`: an item for each question and retriever, refused for another embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.gate_rows import GateRow
from slipway.errors import StateError
from slipway.evaluation.metric import entries
from slipway.evaluation.paired_rules import non_inferiority_rule
from slipway.evaluation.retrieval_metrics import retrieval_evaluated
from slipway.stages.search_eval import params_of
from slipway.store.artifacts import SearchIndex
from slipway.store.store import load, seal
from tests.support import faq
from tests.support.pico_embedder import pico_embedder
from tests.support.rag_stages import chain


def test_items_metrics_and_speed(tmp_path: Path) -> None:
    made = chain(tmp_path).evaluated()
    items = [json.loads(line) for line in (made.path / "items.jsonl").read_text().splitlines()]
    assert len(items) == 3 * 32
    metrics = made.read_json("metrics.json")
    assert metrics["bm25"]["hit@1"] > 0.7, "each question holds a word of its own paragraph alone"
    assert metrics["bm25"]["recall"] > metrics["dense"]["recall"], "random weights find nothing"
    mean = sum(item["recall"] for item in items if item["retriever"] == "bm25") / 32
    assert metrics["bm25"]["recall"] == pytest.approx(mean)
    assert made.read_json("speed.json")["hybrid"]["searches"] == 20


def test_an_index_that_its_probes_know_and_that_gives_other_text_is_worth_little_to_the_gate(tmp_path: Path) -> None:
    """Chunks in another order than their words: each probe finds the rows that it found, and they hold other text."""
    one = chain(tmp_path, retrievers=["bm25"])
    index, judged = one.index(vectors=False), []
    for key in ("whole", "spoiled"):
        if key == "spoiled":
            lines = (index.path / "chunks.jsonl").read_text().splitlines(keepends=True)
            (index.path / "chunks.jsonl").write_text("".join(lines[11:] + lines[:11]))
            (index.path / "manifest.json").unlink()
            seal(index.path, SearchIndex.kind, index.key, {})
        sealed = load(SearchIndex, index.path)
        evaluation = one.make("search_eval", params_of(one.config), index=sealed, corpus=one.corpus())
        judged.append(retrieval_evaluated(evaluation, None, 0.95))
    recall = [entries(each.metrics)["rag_recall"]["value"] for each in judged]
    assert recall[0] > 0.7 > 0.3 > recall[1]
    for metric in ("rag_recall", "rag_hit_5"):
        row = GateRow("non_inferiority", metric=metric, against="champion", margin=0.2, min_items=10)
        spoiled, whole = ({"candidate": each, "champion": judged[0]} for each in reversed(judged))
        assert non_inferiority_rule(row, spoiled).outcome == "fail"
        assert non_inferiority_rule(row, whole).value == 0


def test_questions_of_documents_that_an_index_has_otherwise_are_marked(tmp_path: Path) -> None:
    """An index of before is asked today's questions: of what it does not hold word for word nothing can be said."""
    before = chain(tmp_path, retrievers=["bm25"])
    index = before.index(vectors=False)
    faq.write_corpus(tmp_path / "data", 5)  # one more document
    file = tmp_path / "data/documents.jsonl"
    file.write_text(file.read_text().replace("It is fast", "It is swift", 1))  # of the first; its spans move
    questions = tmp_path / "data/questions.jsonl"
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    kept = [row for row in rows if row["id"] == "d0-sort" or not row["id"].startswith("d0")]
    questions.write_text("".join(json.dumps(row) + "\n" for row in kept))
    made = before.make("search_eval", params_of(before.config), index=index, corpus=before.corpus())
    items = [json.loads(line) for line in (made.path / "items.jsonl").read_text().splitlines()]
    assert {item["document"] for item in items if item["same_text"]} == {"d1", "d2", "d3"}
    assert {item["document"] for item in items if not item["same_text"]} == {"d0", "d4"}


def test_another_embedder_of_the_same_dimension_ends_the_stage(tmp_path: Path) -> None:
    one = chain(tmp_path)
    index = one.index()
    pico_embedder(tmp_path / "model", seed=9)
    with pytest.raises(StateError, match="embedder of index"):
        one.make("search_eval", params_of(one.config), index=index, corpus=one.corpus())
