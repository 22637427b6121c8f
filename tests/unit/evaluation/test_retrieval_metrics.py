"""What the gate reads of retrieval: one retriever, the half that reports, intervals by document where they suffice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import StateError
from slipway.evaluation.metric import entries
from slipway.evaluation.retrieval_metrics import METRICS, left_out, retrieval_evaluated
from slipway.rag.span_metrics import NAMES
from slipway.store.artifacts import Choice, Retrieval
from slipway.store.store import Store, load


def row(
    at: int, retriever: str = "dense", half: str = "report", document: str = "d", **values: float
) -> dict[str, Any]:
    about = {"question": f"q{at}", "document": document, "half": half, "retriever": retriever}
    return {**about, **dict.fromkeys(NAMES, 0.0), **values}


def evaluation(folder: Path, rows: list[dict[str, Any]]) -> Retrieval:
    store = Store(folder / "store")
    with store.create(Retrieval, "r", {}) as out:
        (out / "items.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return load(Retrieval, store.dir("retrieval", "r"))


def choice(folder: Path, winner: str) -> Choice:
    store = Store(folder / "store")
    with store.create(Choice, "c", {}) as out:
        (out / "choice.json").write_text(json.dumps({"winner": winner}))
    return load(Choice, store.dir("choice", "c"))


def test_each_metric_is_one_that_an_evaluation_of_retrieval_has(tmp_path: Path) -> None:
    values = {name: (at + 1) / 10 for at, name in enumerate(NAMES)}
    values |= {"hit@1": 0.0, "hit@5": 1.0, "hit@10": 1.0}
    judged = entries(
        retrieval_evaluated(evaluation(tmp_path, [row(0, **values), row(1, **values)]), None, 0.95).metrics
    )
    assert [one["value"] for one in judged.values()] == [values[name] for name in NAMES]
    assert len(METRICS) == len(NAMES)


def test_only_the_half_that_chose_nothing_counts(tmp_path: Path) -> None:
    rows = [row(0, recall=1.0), row(1, recall=0.5), *(row(at, half="choose") for at in range(2, 9))]
    judged = retrieval_evaluated(evaluation(tmp_path, rows), None, 0.95)
    assert [item["id"] for item in judged.items] == ["q0", "q1"]
    recall = entries(judged.metrics)["rag_recall"]
    assert (recall["value"], recall["n"]) == (0.75, 2)
    assert 0 <= recall["low"] < 0.75 < recall["high"] <= 1


def test_a_question_of_a_document_that_the_index_has_otherwise_has_no_value(tmp_path: Path) -> None:
    rows = [row(0, recall=1.0), {**row(1, recall=0.0), "same_text": False}, {**row(2, recall=0.5), "same_text": True}]
    judged = retrieval_evaluated(evaluation(tmp_path, rows), None, 0.95)
    assert [item["metrics"]["rag_recall"] for item in judged.items] == [1.0, None, 0.5]
    assert entries(judged.metrics)["rag_recall"]["value"] == 0.75
    assert left_out(judged) == 1


def test_documents_are_clusters_where_there_are_twenty(tmp_path: Path) -> None:
    def width(documents: int, folder: Path) -> float:
        rows = [
            row(at, document=f"d{at % documents}", recall=float(at % documents < documents / 2)) for at in range(80)
        ]
        recall = entries(retrieval_evaluated(evaluation(folder, rows), None, 0.95).metrics)["rag_recall"]
        return float(recall["high"] - recall["low"])

    by_question, by_document = width(19, tmp_path / "few"), width(20, tmp_path / "many")
    assert by_document > 1.5 * by_question


def test_no_question_that_reports_is_no_value(tmp_path: Path) -> None:
    judged = retrieval_evaluated(evaluation(tmp_path, [row(0, half="choose")]), None, 0.95)
    assert {one["value"] for one in judged.metrics["metrics"]} == {None}


def test_the_retriever_is_the_chosen_one_or_the_only_one(tmp_path: Path) -> None:
    both = evaluation(tmp_path, [row(0, "bm25", recall=0.2), row(0, "hybrid", recall=0.9)])
    judged = retrieval_evaluated(both, choice(tmp_path, "a/b/hybrid"), 0.95)
    assert entries(judged.metrics)["rag_recall"]["value"] == 0.9
    with pytest.raises(StateError, match="of bm25, hybrid"):
        retrieval_evaluated(both, None, 0.95)
    with pytest.raises(StateError, match="dense"):
        retrieval_evaluated(both, choice(tmp_path / "other", "fixed/dense"), 0.95)
    with pytest.raises(StateError, match="of nothing"):
        retrieval_evaluated(evaluation(tmp_path / "none", []), None, 0.95)
