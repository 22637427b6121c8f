"""The files of an index: everything that a search needs, and what says that it still is what was built.

    documents.jsonl, chunks.jsonl   the text and its chunks; row i of the index is line i
    bm25/                           the lexical index
    vectors.faiss                   exact inner products of unit vectors (FAISS flat), where there is an embedder
    probes.npy                      vectors of the probes, [32, dimension]
    index.json                      digests of corpus, chunks and embedder, and the probes with their top tens

Probes are the first words of 32 chunks, evenly spread. Their top tens are replayed at every open: a file that was
swapped, a library that ranks otherwise, or an embedder that answers otherwise shows before anything is searched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import StateError
from slipway.rag.chunking import Chunk
from slipway.rag.documents import DOCUMENTS, Document
from slipway.rag.lexical import LexicalIndex, LexicalSearch, Ranked
from slipway.system.json_files import read_json, read_json_lines

F32 = NDArray[np.float32]
INDEX, CHUNKS, VECTORS, PROBES, LEXICAL = "index.json", "chunks.jsonl", "vectors.faiss", "probes.npy", "bm25"
PROBE_COUNT, PROBE_WORDS, TOP = 32, 12, 10
TIE = 1e-4  # scores closer than this may change places with another processor
_NEXT = "`slipway rag build` makes it anew"


@dataclass(frozen=True)
class Index:
    """An index in memory. `about`: index.json; `vectors`: the FAISS index, or what a store answers in its place; None
    without an embedder."""

    path: Path
    about: Mapping[str, Any]
    documents: Mapping[str, str]
    chunks: Sequence[Chunk]
    lexical: LexicalSearch
    vectors: Any | None
    probe_vectors: F32 | None

    def text(self, row: int) -> str:
        """The text that is given for a row: its chunk's context."""
        chunk = self.chunks[row]
        return self.documents[chunk.document][chunk.context_start : chunk.context_end]

    def nearest(self, vectors: F32, depth: int) -> list[Ranked]:
        """For each unit vector, [n, dimension], the rows of the largest inner products; ties by row."""
        assert self.vectors is not None
        scores, rows = self.vectors.search(np.ascontiguousarray(vectors), min(depth, len(self.chunks)))
        pairs = [zip(r.tolist(), s.tolist(), strict=True) for r, s in zip(rows, scores, strict=True)]
        return [sorted(pair, key=lambda one: (-one[1], one[0])) for pair in pairs]


def probe_texts(texts: Sequence[str]) -> list[str]:
    """The first words of 32 texts, evenly spread; fewer where there are fewer texts."""
    count = min(PROBE_COUNT, len(texts))
    picked = [texts[at * len(texts) // count] for at in range(count)]
    return [" ".join(text.split()[:PROBE_WORDS]) for text in picked]


def build(
    out: Path,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    vectors: tuple[F32, F32] | None,
    about: Mapping[str, Any],
) -> Index:
    """Write an index into `out`. `vectors`: of the chunks and of the probes. Raises StateError when chunks repeat."""
    ids = [chunk.id for chunk in chunks]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise StateError(f"chunk {twice}", "there twice", "ids that are unique", "`slipway rag build` again")
    texts = {one.id: one.text for one in documents}
    searched = [texts[one.document][one.start : one.end] for one in chunks]
    _lines(out / DOCUMENTS, [{"id": one.id, "text": one.text} for one in documents])
    _lines(out / CHUNKS, [one.to_json() for one in chunks])
    lexical = LexicalIndex.build(searched)
    lexical.save(out / LEXICAL)
    flat, probe_vectors = None, None
    if vectors is not None:
        flat, probe_vectors = _flat(vectors[0]), vectors[1]
        _write_flat(flat, out / VECTORS)
        np.save(out / PROBES, probe_vectors)
    index = Index(out, {}, texts, chunks, lexical, flat, probe_vectors)
    probes = probe_texts(searched)
    document = {**about, "rows": len(chunks), "probes": probes, "top": top_tens(index, probes)}
    (out / INDEX).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Index(out, document, texts, chunks, lexical, flat, probe_vectors)


def read(path: Path) -> Index:
    """The index in a directory, not yet checked. Raises StateError for one that is not whole."""
    about = read_json(path / INDEX, "index", _NEXT)
    documents = {row["id"]: row["text"] for row in read_json_lines(path / DOCUMENTS, "documents of an index", _NEXT)}
    chunks = [Chunk(**row) for row in read_json_lines(path / CHUNKS, "chunks of an index", _NEXT)]
    lexical = LexicalIndex.open(path / LEXICAL, len(chunks))
    if about.get("embedder") is None:
        return Index(path, about, documents, chunks, lexical, None, None)
    flat, probe_vectors = _read_flat(path / VECTORS), np.load(path / PROBES, allow_pickle=False)
    if flat.ntotal != len(chunks) or flat.d != probe_vectors.shape[1]:
        shape = f"{flat.ntotal} vectors of {flat.d}"
        raise StateError(f"index {path}", shape, f"{len(chunks)} of {probe_vectors.shape[1]}", _NEXT)
    return Index(path, about, documents, chunks, lexical, flat, probe_vectors)


def top_tens(index: Index, probes: Sequence[str]) -> dict[str, list[list[list[float]]]]:
    """Rows and scores of each probe's top ten, by retriever."""
    tens = {"bm25": [[list(pair) for pair in index.lexical.search(text, TOP)] for text in probes]}
    if index.probe_vectors is not None:
        tens["dense"] = [[list(pair) for pair in one] for one in index.nearest(index.probe_vectors, TOP)]
    return tens


def replay(index: Index, retrievers: Sequence[str] = ("bm25", "dense")) -> list[str]:
    """What differs when the probes are searched again by these retrievers; rows that tie may have changed places."""
    now, before = top_tens(index, index.about["probes"]), index.about["top"]
    return [
        f"{name}, probe {text!r}: {[row for row, _ in ours]} in place of {[int(row) for row, _ in theirs]}"
        for name in before
        if name in retrievers
        for text, ours, theirs in zip(index.about["probes"], now.get(name, []), before[name], strict=True)
        if not same_ranking(ours, theirs)
    ]


def same_ranking(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> bool:
    """Whether two rankings agree: at each rank the same row, or rows whose scores tie."""
    if len(ours) != len(theirs):
        return False
    pairs = zip(ours, theirs, strict=True)
    return all(abs(a[1] - b[1]) <= TIE * max(1.0, abs(b[1])) for a, b in pairs) and _same_but_ties(ours, theirs)


def _same_but_ties(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> bool:
    """Whether rows above the last score, with its ties, are the same."""
    if not theirs:
        return True
    edge = theirs[-1][1] + TIE * max(1.0, abs(theirs[-1][1]))
    return {int(row) for row, score in ours if score > edge} == {int(row) for row, score in theirs if score > edge}


def _flat(vectors: F32) -> Any:
    import faiss

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(np.ascontiguousarray(vectors))
    return flat


def _write_flat(flat: Any, file: Path) -> None:
    import faiss

    faiss.write_index(flat, str(file))


def _read_flat(file: Path) -> Any:
    import faiss

    try:
        return faiss.read_index(str(file))
    except RuntimeError as err:
        raise StateError(f"vectors {file}", str(err).splitlines()[0], "a FAISS index", _NEXT) from err


def _lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
