"""Answers over retrieved text, scored word by word, against values counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.evaluation.metric import entries
from slipway.rag.answer_metrics import METRICS, Answered, Asked, f1, score, summarize
from slipway.rag.answer_prompt import Passage

PHRASE = "I do not know"
QUESTION = Asked("q", "How do I sort?", "Call sorted on the list", frozenset({"sorting"}))
RIGHT, OTHER = Passage("sorting", "Call sorted on the list, it is stable."), Passage("files", "Call open on the file.")


def values(answer: str, passages: list[Passage], relevant: bool = True, **others: Answered) -> dict[str, Any]:
    scored = score(QUESTION, {"retrieved": Answered(answer, passages, relevant), **others}, PHRASE)
    metrics: dict[str, Any] = scored["metrics"]
    return metrics


def test_words_of_the_reference_are_counted_without_citations() -> None:
    assert f1("Call sorted [1]", QUESTION.reference) == pytest.approx(2 * 2 / (2 + 5))
    assert f1("nothing of it here at all", "what else") == f1("", "x") == 0.0
    made = values("CALL SORTED on the list. [1]", [RIGHT])
    assert (made["answer_f1"], made["answer_contains"]) == (1.0, 1.0)
    assert values("call it sorted on the list", [RIGHT])["answer_contains"] == 0.0


def test_a_long_reference_is_not_looked_for_as_a_whole() -> None:
    long = Asked("q", "?", "word " * 13, frozenset({"sorting"}))
    assert score(long, {"retrieved": Answered("word", [RIGHT], True)}, PHRASE)["metrics"]["answer_contains"] is None


def test_support_is_the_share_of_words_that_the_passages_hold() -> None:
    assert values("Call sorted or sort [1]", [RIGHT])["answer_supported"] == 0.5
    assert values("I do not know", [RIGHT])["answer_supported"] is None
    assert values("", [RIGHT])["answer_supported"] is None
    assert values("anything", [], relevant=False)["answer_supported"] == 0.0


@pytest.mark.parametrize(
    ("answer", "passages", "cites"),
    [
        ("sorted [1]", [RIGHT, OTHER], 1.0),
        ("sorted [2]", [RIGHT, OTHER], 0.0),
        ("sorted [1][2]", [RIGHT, OTHER], 0.0),
        ("sorted [1][3]", [RIGHT, OTHER], 0.0),
        ("sorted [0]", [RIGHT], 0.0),
        ("sorted", [RIGHT], 0.0),
        ("sorted [2, 1]", [RIGHT, RIGHT], 1.0),
        ("sorted [1]", [OTHER], None),
    ],
)
def test_right_is_to_cite_the_documents_of_the_question_and_no_others(
    answer: str, passages: list[Passage], cites: float | None
) -> None:
    assert values(answer, passages)["answer_cites"] == cites


def test_a_refusal_is_right_where_nothing_relevant_was_given_and_wrong_elsewhere() -> None:
    refusal, answer = Answered("I do not know.", [OTHER], False), Answered("open it [1]", [OTHER], False)
    known = values("sorted [1]", [RIGHT], without=refusal)
    assert (known["answer_refuses"], known["answer_refuses_known"]) == (1.0, 0.0)
    guessed = values("I do not know", [RIGHT], without=answer)
    assert (guessed["answer_refuses"], guessed["answer_refuses_known"]) == (0.0, 1.0)
    missed = values("I do not know", [OTHER], relevant=False, without=answer)
    assert (missed["answer_refuses"], missed["answer_refuses_known"]) == (1.0, None), "the miss itself is looked at"
    assert values("sorted", [RIGHT])["answer_refuses"] is None


def test_other_arms_have_their_own_figures() -> None:
    arms = {"closed": Answered("no idea", [], False), "gold": Answered("Call sorted on the list", [RIGHT], True)}
    made = values("Call", [RIGHT], **arms)
    assert (made["answer_f1_closed"], made["answer_f1_gold"]) == (0.0, 1.0)
    assert set(made) == {metric.name for metric in METRICS}


def test_intervals_are_by_document_where_there_are_twenty() -> None:
    def width(documents: int) -> float:
        items = []
        for at in range(80):
            name = f"d{at % documents}"
            right = at % documents < documents / 2
            question = Asked(f"q{at}", "?", "one two", frozenset({name}))
            answer = Answered("one two" if right else "three", [Passage(name, "one two")], True)
            items.append(score(question, {"retrieved": answer}, PHRASE))
        entry = entries(summarize(items, 0.95))["answer_f1"]
        assert entry["value"] == pytest.approx(0.5, abs=0.1)
        return float(entry["high"] - entry["low"])

    assert width(20) > 1.5 * width(19)
