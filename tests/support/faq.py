"""A small corpus in the form of retrieval: documents of paragraphs, and a question for each paragraph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.config.rag import EmbedderConfig
from slipway.rag.chunking import Chunk
from slipway.rag.documents import Document
from slipway.rag.embedder import open_embedder
from slipway.rag.index import build, probe_texts
from slipway.store.artifacts import SearchIndex
from slipway.store.store import seal

TOPICS = ("sort", "list", "names", "hash", "file", "read", "write", "open")


def documents(count: int = 4) -> list[dict[str, str]]:
    """`count` documents with a paragraph for each topic; each paragraph has a word that no other has."""
    return [{"id": f"d{n}", "text": "".join(f"{paragraph(n, topic)}\n\n" for topic in TOPICS)} for n in range(count)]


def paragraph(number: int, topic: str) -> str:
    """A paragraph of three sentences."""
    return f"The word{number}{topic} is about how python can {topic}. It is fast. Perl is slow to {topic} a file."


def questions(docs: list[dict[str, str]]) -> list[dict[str, Any]]:
    """A question for each paragraph, with its span."""
    rows = []
    for number, doc in enumerate(docs):
        for topic in TOPICS:
            start = doc["text"].index(paragraph(number, topic))
            span = {"document": doc["id"], "start": start, "end": start + len(paragraph(number, topic))}
            rows.append({"id": f"{doc['id']}-{topic}", "text": f"Say, what is word{number}{topic}?", "spans": [span]})
    return rows


def write_corpus(folder: Path, count: int = 4) -> Path:
    """The corpus as `documents.jsonl` and `questions.jsonl` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    docs = documents(count)
    for name, rows in (("documents", docs), ("questions", questions(docs))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def built_index(folder: Path, params: EmbedderConfig | None, *, cache: Path, count: int = 4) -> Path:
    """A sealed index over the corpus, a chunk for each paragraph; with this embedder, or BM25 alone."""
    docs = [Document(row["id"], row["text"]) for row in documents(count)]
    chunks = [
        Chunk(span["document"], span["start"], span["end"], span["start"], span["end"], 20)
        for row in questions(documents(count))
        for span in row["spans"]
    ]
    arrays, about = None, None
    if params is not None:
        embedder = open_embedder(params, cache)
        texts = [docs[int(one.document[1:])].text[one.start : one.end] for one in chunks]
        arrays = (embedder.passages(texts), embedder.queries(probe_texts(texts)))
        about = {**embedder.facts.to_json(), "digest": embedder.facts.digest, "dimension": 16}
    folder.mkdir(parents=True)
    build(folder, docs, chunks, arrays, {"name": "paragraphs", "corpus": "c", "embedder": about})
    seal(folder, SearchIndex.kind, "k", {})
    return folder
