"""Contexts of the arms of a question: what they hold of the gold, and within which budget."""

from __future__ import annotations

from slipway.rag.answer_contexts import contexts, picked
from slipway.rag.answer_prompt import Passage
from slipway.rag.chunking import Chunk
from slipway.rag.questions import Question, Span
from slipway.rag.tokens import ruler
from tests.support.pico_embedder import tokenizer

DOCUMENTS = {"a": "how do i sort a list ? how do i open a file ?", "b": "perl is slow . python is fast ."}
RULERS = {name: ruler(text, tokenizer()) for name, text in DOCUMENTS.items()}
ARMS = ("retrieved", "without", "closed", "gold")


def chunk(document: str, text: str) -> Chunk:
    start = DOCUMENTS[document].index(text)
    end = start + len(text)
    return Chunk(document, start, end, start, end, RULERS[document].count(start, end))


SORT, OPEN = chunk("a", "how do i sort a list ?"), chunk("a", "how do i open a file ?")
SLOW, FAST = chunk("b", "perl is slow ."), chunk("b", "python is fast .")
QUESTION = Question("q", "?", (Span("a", SORT.start, SORT.end),), "report")


def test_each_arm_has_its_passages_and_knows_whether_they_answer() -> None:
    made = contexts(QUESTION, [FAST, OPEN, SORT, SLOW], ARMS, 100, DOCUMENTS, RULERS)
    texts = {arm: [one.text for one in passages] for arm, (passages, _) in made.items()}
    assert texts == {
        "retrieved": ["python is fast .", "how do i open a file ?", "how do i sort a list ?", "perl is slow ."],
        "without": ["python is fast .", "perl is slow ."],
        "closed": [],
        "gold": ["how do i sort a list ?"],
    }
    assert {arm: relevant for arm, (_, relevant) in made.items()} == {
        "retrieved": True, "without": False, "closed": False, "gold": True,
    }  # fmt: skip


def test_the_budget_cuts_the_last_passage_and_what_lies_behind_it_is_not_given() -> None:
    made = contexts(QUESTION, [FAST, SORT], ARMS, 6, DOCUMENTS, RULERS)
    assert [one.text.strip() for one in made["retrieved"][0]] == ["python is fast .", "how do"]
    assert made["retrieved"][1]
    assert made["gold"][0] == [Passage("a", "how do i sort a list ")]
    missed, relevant = contexts(QUESTION, [FAST, SLOW, SORT], ARMS, 6, DOCUMENTS, RULERS)["retrieved"]
    assert ([one.document for one in missed], relevant) == (["b", "b"], False)


def test_questions_that_chose_nothing_are_picked_evenly() -> None:
    questions = [Question(str(n), "?", QUESTION.spans, "report" if n % 2 else "choose") for n in range(20)]
    assert [one.id for one in picked(questions, 5)] == ["1", "5", "9", "13", "17"]
    assert len(picked(questions, 50)) == 10
    assert picked(questions[:1], 5) == []
