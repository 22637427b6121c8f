"""Questions: gold spans checked against the text, leakage, halves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import DataError
from slipway.rag.documents import Document
from slipway.rag.questions import Question, halved, leaks, question_of, read_questions
from tests.support import faq

DOCUMENTS = [Document("d", "Sorting is done with sort. Use it well.")]


def read(tmp_path: Path, *rows: Any, documents: list[Document] = DOCUMENTS) -> list[Question]:
    file = tmp_path / "questions.jsonl"
    good = {"id": "g", "text": "Which call puts things in order?", "spans": [{"document": "d", "start": 0, "end": 9}]}
    file.write_text("".join(json.dumps(row) + "\n" for row in (good, *rows)))
    return read_questions(file, documents, 0)


def asked(**change: Any) -> dict[str, Any]:
    return {"id": "q", "text": "How is it?", "spans": [{"document": "d", "start": 0, "end": 26}], **change}


def span(**change: Any) -> dict[str, Any]:
    return asked(spans=[{"document": "d", "start": 0, "end": 26, **change}])


def test_good_questions_come_back_as_they_are_stored(tmp_path: Path) -> None:
    questions = read(tmp_path, span(text="Sorting is done with sort."))
    assert {one.half for one in questions} == {"choose", "report"}
    assert [question_of(one.to_json()) for one in questions] == questions


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (span(end=40), "span 0 to 40 is not within document d of 39 characters"),
        (span(start=-1), "span -1 to 26 is not within"),
        (span(start=26), "span 26 to 26 is not within"),
        (span(start=True), "span True to 26 is not within"),
        (span(start=26, end=27), "is blank"),
        (span(text="something else"), "has other text at 0 to 26"),
        (span(document="e"), "its document 'e' is not in the corpus"),
        (asked(spans=[]), "expected `spans`"),
        (asked(spans=[3]), "span 3 is no object"),
        (asked(text=" "), "expected `id` and `text`"),
        (asked(id="g"), "id 'g' is there more than once"),
        (asked(text="sorting IS  done with\nsort"), "leakage: its text stands in document d"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(DataError, match=r"questions\.jsonl:\d: .*" + words):
        read(tmp_path, row)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 problem"):
        read(tmp_path, span(end=99), span(document="z"))


def test_no_or_one_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one question"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "absent", DOCUMENTS, 0)
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="no questions"):
        read_questions(tmp_path / "empty", DOCUMENTS, 0)


def test_short_questions_are_no_leak() -> None:
    question = Question("q", "Use it", ())
    assert leaks([question], DOCUMENTS) == []


def test_each_document_gives_as_many_questions_to_either_half(tmp_path: Path) -> None:
    docs = faq.documents(5)
    rows = [question_of({**row, "half": "choose"}) for row in faq.questions(docs)]
    counts = Counter((one.document, one.half) for one in halved(rows, 3))
    assert set(counts.values()) == {4}
    assert halved(rows, 3) == halved(rows, 3) != halved(rows, 4)
