"""Stage `corpus`: what it writes, and that its key follows the bytes and not the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import DataError
from slipway.stages.corpus import params_of
from tests.support.rag_stages import chain

ROOT = Path(__file__).resolve().parents[3]


def test_documents_and_questions_are_kept_with_a_summary(tmp_path: Path) -> None:
    made = chain(tmp_path).corpus()
    summary = made.summary
    assert (summary["documents"], summary["questions"], summary["questions_to_choose"]) == (4, 32, 16)
    assert summary["revision"] == "not tracked by DVC"
    assert "| questions | 32 |" in (made.path / "card.md").read_text()


def test_the_key_follows_documents_questions_and_seed(tmp_path: Path) -> None:
    one, moved = chain(tmp_path / "a"), chain(tmp_path / "b")
    key = params_of(one.config, one.folder).key_document()
    assert params_of(moved.config, moved.folder).key_document() == key
    with (moved.folder / "data/questions.jsonl").open("a") as file:
        file.write("\n")
    assert params_of(moved.config, moved.folder).key_document() != key
    (one.folder / "data/questions.jsonl").unlink()
    assert params_of(one.config, one.folder, needs_questions=False).key_document() != key


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    one = chain(tmp_path)
    (tmp_path / "data/questions.jsonl").unlink()
    with pytest.raises(DataError, match=r"rag\.questions"):
        params_of(one.config, tmp_path)
    with pytest.raises(DataError, match=r"rag\.corpus"):
        params_of(one.config, tmp_path / "elsewhere")


def test_the_default_corpus_is_what_its_sources_make() -> None:
    """The committed sources: 17 FAQ documents, 461 questions, each with its span; 13 headings stand in a text."""
    from scripts.faq import corpus
    from slipway.rag.documents import Document
    from slipway.rag.questions import Question, Span, leaks

    pairs = list(corpus())
    documents = [Document(one["id"], one["text"]) for one, _ in pairs]
    rows = [row for _, questions in pairs for row in questions]
    questions = [Question(row["id"], row["text"], tuple(Span(**s) for s in row["spans"])) for row in rows]
    leaked = {name for name, _ in leaks(questions, documents)}
    texts = {one.id: one.text for one in documents}
    assert (len(documents), len(questions)) == (17, 474)
    assert len(leaked) <= 13
    for one in questions:
        span = one.spans[0]
        gold = texts[span.document][span.start : span.end]
        assert len(gold) >= 80 and gold == gold.strip()
        assert "X<" not in one.text and "C<" not in one.text
