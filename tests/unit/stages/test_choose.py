"""Stage `choose`: arms of all strategies and retrievers, the choice and its card."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import StateError
from slipway.stages import choose
from tests.support.rag_stages import chain


def test_the_choice_holds_every_arm(tmp_path: Path) -> None:
    one = chain(tmp_path, documents=8)
    made = one.choice("fixed", "window")
    document = made.read_json("choice.json")
    assert [row["arm"] for row in document["arms"]] == [
        f"{strategy}/{name}" for strategy in ("fixed", "window") for name in ("bm25", "dense", "hybrid")
    ]
    assert not document["best"].endswith("/dense"), "random weights find nothing"
    assert document["questions"] == {"choose": 32, "report": 32}
    assert document["arms"][0]["costs"]["embedded_tokens"] == 0 < document["arms"][1]["costs"]["embedded_tokens"]
    assert (made.path / "card.md").read_text().startswith(f"# Retrieval: {document['winner']}")
    assert made.summary["winner"] == document["winner"]


def test_few_questions_leave_it_undecided(tmp_path: Path) -> None:
    made = chain(tmp_path, documents=2).choice("fixed")
    document = made.read_json("choice.json")
    assert (document["outcome"], document["winner"], document["questions_needed"]) == ("undecided", "fixed/bm25", 50)


def test_an_evaluation_that_is_not_the_planned_one_is_refused(tmp_path: Path) -> None:
    one = chain(tmp_path)
    made = one.evaluated()
    row = choose.EvaluatedIndex(strategy="fixed", path=str(made.path), digest="0" * 64, costs={})
    with pytest.raises(StateError, match="evaluation"):
        one.make("choose", choose.params_of(one.config, [row]), corpus=one.corpus())
    moved = row.model_copy(update={"path": "/elsewhere"})
    assert choose.params_of(one.config, [row]).key_document() == choose.params_of(one.config, [moved]).key_document()
