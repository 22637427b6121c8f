"""Corpus: a folder of documents and a file of questions -> both checked, normalized, the questions halved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.data.dvc_lock import digest_now, locked_digest
from slipway.errors import DataError
from slipway.pipeline.workspace import Workspace
from slipway.rag import documents as source_documents
from slipway.rag import questions as source_questions
from slipway.rag.documents import DOCUMENTS, Document
from slipway.rag.questions import QUESTIONS, Question
from slipway.store.artifacts import Corpus

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Corpus


class CorpusParams(Section):
    """Where documents and questions are, and their digests, so that the key changes with them."""

    source: str = Field(description="Absolute path of the documents.")
    questions: str = Field(description="Absolute path of the questions; empty: none.")
    digests: list[str] = Field(description="md5 of documents and of questions, as DVC writes them.")
    revision: str | None = Field(description="DVC's digest of the documents; null when DVC does not know them.")
    seed: int = Field(description="Seed of the halves.")

    def key_document(self) -> dict[str, Any]:
        """By digest, not by path: a clone may move."""
        document = super().key_document()
        return {name: document[name] for name in ("digests", "seed")}


def params_of(config: Config, root: Path, *, needs_questions: bool = True) -> CorpusParams:
    """This stage's params in the project `root`. Raises DataError where the documents, or questions that are needed,
    are not there; questions that are there are taken either way, so that what was compared is what is built."""
    source = (root / Path(config.rag.corpus).expanduser()).resolve()
    if not source.exists():
        raise DataError("rag.corpus", source, "a folder of documents", "`dvc repro faq` makes the default; or set it")
    named = config.rag.questions or str((source if source.is_dir() else source.parent) / QUESTIONS)
    questions = (root / Path(named).expanduser()).resolve()
    with_questions = questions.is_file()
    if needs_questions and not with_questions:
        raise DataError(
            "rag.questions", questions, "a file of questions with gold spans", "see docs/rag.md; set rag.questions"
        )
    used = [source, *([questions] if with_questions else [])]
    return CorpusParams(
        source=str(source),
        questions=str(questions) if with_questions else "",
        digests=[digest_now(one) for one in used],
        revision=locked_digest(root, source),
        seed=config.rag.choose.seed,
    )


def corpus(params: CorpusParams, space: Workspace) -> None:
    """Write `documents.jsonl`, `questions.jsonl`, `card.md` and `summary.json`. Raises DataError listing all that is
    wrong with documents and questions."""
    from slipway.rag.stored import write_document, write_lines

    documents = source_documents.read_documents(Path(params.source))
    asked = list[Question]()
    if params.questions:
        asked = source_questions.read_questions(Path(params.questions), documents, params.seed)
    space.progress.note(f"{len(documents)} documents, {len(asked)} questions")
    write_lines(space.out / DOCUMENTS, [{"id": one.id, "text": one.text} for one in documents])
    write_lines(space.out / QUESTIONS, [one.to_json() for one in asked])
    summary = _summary(documents, asked, params)
    write_document(space.out / "summary.json", summary)
    rows = "".join(f"| {name} | {value} |\n" for name, value in summary.items())
    (space.out / "card.md").write_text(f"# Corpus\n\n| | |\n|---|---|\n{rows}", encoding="utf-8")


def _summary(documents: list[Document], asked: list[Question], params: CorpusParams) -> dict[str, Any]:
    longest = max((len(line) for one in documents for line in one.text.split("\n")), default=0)
    return {
        "documents": len(documents),
        "characters": sum(len(one.text) for one in documents),
        "longest_line": longest,
        "questions": len(asked),
        "documents_asked": len({one.document for one in asked}),
        "questions_to_choose": sum(one.half == "choose" for one in asked),
        "source": Path(params.source).name,
        "revision": params.revision or "not tracked by DVC",
    }
