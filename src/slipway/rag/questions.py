"""Questions with the exact spans that answer them, checked against the documents, and halved.

`questions.jsonl`: `{"id", "text", "spans": [{"document", "start", "end"}]}`, offsets in characters of the document's
text; a span may carry `text`, which must stand there. One half chooses the arm, the other reports it: questions of each
document are dealt out in turn, in an order that their ids and a seed decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slipway.rag.documents import Document, normalized, read_lines, refuse
from slipway.system.files import sha256_bytes

QUESTIONS = "questions.jsonl"
SHORTEST_LEAK = 12  # characters: shorter questions stand in any text by chance
Half = Literal["choose", "report"]


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of a document's text."""

    document: str
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """One question, its gold spans, and the half that it belongs to."""

    id: str
    text: str
    spans: tuple[Span, ...]
    half: Half = "choose"

    @property
    def document(self) -> str:
        """The document of its first span, by which questions are resampled."""
        return self.spans[0].document

    def to_json(self) -> dict[str, Any]:
        """The question as a line of the corpus."""
        return {"id": self.id, "text": self.text, "half": self.half, "spans": [vars(span) for span in self.spans]}


def question_of(row: Mapping[str, Any]) -> Question:
    """A line of the corpus as a question."""
    return Question(row["id"], row["text"], tuple(Span(**span) for span in row["spans"]), row["half"])


def read_questions(file: Path, documents: Sequence[Document], seed: int) -> list[Question]:
    """The questions of a file. Raises DataError that lists every problem at once with file and line: no question text,
    an id twice, a span outside its document or empty, another text there, a question that stands in a document."""
    if not file.is_file():
        refuse([f"{file}: no such file"], "questions")
    texts = {one.id: one.text for one in documents}
    rows, problems = read_lines(file)
    questions, places = [], dict[str, int]()
    for number, row in rows:
        wrong = _problems(row, texts)
        problems += [f"{file}:{number}: {problem}" for problem in wrong]
        if not wrong:
            spans = tuple(Span(s["document"], s["start"], s["end"]) for s in row["spans"])
            questions.append(Question(row["id"], normalized(row["text"]).strip(), spans))
            places.setdefault(row["id"], number)
    repeated = [name for name, n in Counter(one.id for one in questions).items() if n > 1]
    problems += [f"{file}:{places[name]}: id {name!r} is there more than once" for name in repeated]
    problems += [f"{file}:{places[name]}: {problem}" for name, problem in leaks(questions, documents)]
    if not rows and not problems:
        problems = [f"{file}: no questions"]
    if len(rows) == 1 and not problems:
        problems = [f"{file}: one question; two halves need two at least, and some fifty to decide anything"]
    refuse(problems, "questions")
    return halved(questions, seed)


def leaks(questions: Sequence[Question], documents: Sequence[Document]) -> list[tuple[str, str]]:
    """Ids of questions whose text stands word for word in a document, and which: the search would find the question,
    not its answer."""
    flat = [(one.id, _flat(one.text)) for one in documents]
    return [
        (question.id, f"leakage: its text stands in document {name}")
        for question in questions
        if len(words := _flat(question.text)) >= SHORTEST_LEAK
        for name in [next((name for name, text in flat if words in text), None)]
        if name is not None
    ]


def halved(questions: Sequence[Question], seed: int) -> list[Question]:
    """The questions with their halves; of each document as many in one as in the other, within one."""
    order = sorted(questions, key=lambda q: (q.document, sha256_bytes(f"{seed}:{q.id}".encode())))
    halves: dict[str, Half] = {one.id: ("choose" if at % 2 == 0 else "report") for at, one in enumerate(order)}
    return [Question(one.id, one.text, one.spans, halves[one.id]) for one in questions]


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def _problems(row: Mapping[str, Any], texts: Mapping[str, str]) -> list[str]:
    name, text, spans = row.get("id"), row.get("text"), row.get("spans")
    if not (isinstance(name, str) and name and isinstance(text, str) and text.strip()):
        return ["expected `id` and `text` as text"]
    if not (isinstance(spans, list) and spans):
        return [f"question {name}: expected `spans`, a list of document, start and end"]
    return [f"question {name}: {problem}" for span in spans if (problem := _span_problem(span, texts))]


def _span_problem(span: Any, texts: Mapping[str, str]) -> str:
    if not isinstance(span, dict):
        return f"span {span!r} is no object of document, start and end"
    name, start, end = span.get("document"), span.get("start"), span.get("end")
    if not isinstance(name, str) or name not in texts:
        return f"its document {name!r} is not in the corpus"
    length = len(texts[name])
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
        return f"span {start} to {end} is not within document {name} of {length} characters"
    if not texts[name][start:end].strip():
        return f"span {start} to {end} of document {name} is blank"
    expected = span.get("text")
    if expected is not None and normalized(str(expected)) != texts[name][start:end]:
        return f"document {name} has other text at {start} to {end} than the span says"
    return ""
