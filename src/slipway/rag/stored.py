"""What the stages of retrieval read of each other's artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.config.rag import EmbedderConfig
from slipway.rag.chunking import Chunk
from slipway.rag.documents import DOCUMENTS, Document
from slipway.rag.questions import QUESTIONS, Question, question_of
from slipway.store.artifacts import Artifact, Chunks, Corpus
from slipway.system.files import canonical, sha256_bytes
from slipway.system.json_files import read_json_lines

CHUNKS = "chunks.jsonl"
_MEND = "delete the artifact and run again: it is made anew"


def documents_of(corpus: Corpus) -> list[Document]:
    """The documents of a corpus, in their order."""
    return [Document(row["id"], row["text"]) for row in _rows(corpus, DOCUMENTS)]


def questions_of(corpus: Corpus) -> list[Question]:
    """The questions of a corpus, in their order."""
    return [question_of(row) for row in _rows(corpus, QUESTIONS)]


def stored_chunks(chunks: Chunks) -> list[Chunk]:
    """The chunks of an artifact, in their order."""
    return [Chunk(**row) for row in _rows(chunks, CHUNKS)]


def searched_texts(documents: Iterable[Document], chunks: Sequence[Chunk]) -> list[str]:
    """The text that each chunk is found by."""
    texts = {one.id: one.text for one in documents}
    return [texts[one.document][one.start : one.end] for one in chunks]


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_document(file: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON document."""
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def embedder_extra(params: EmbedderConfig) -> dict[str, str]:
    """What a key must know of a model directory beside its path: names, sizes and times of its files."""
    if params.source != "directory":
        return {}
    root = Path(params.directory or "").expanduser()
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else []
    listed = [[p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return {"embedder": sha256_bytes(canonical(listed))}


def absolute(params: EmbedderConfig) -> EmbedderConfig:
    """The embedder with its directory's absolute path: a stage process works in another folder."""
    if params.directory is None:
        return params
    return params.model_copy(update={"directory": str(Path(params.directory).expanduser().resolve())})


def _rows(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    return list(read_json_lines(artifact.path / name, f"{artifact.kind} {artifact.digest[:12]}", _MEND))
