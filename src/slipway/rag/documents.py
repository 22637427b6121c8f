"""Documents as they are searched: read from a folder, checked, their text in Unicode's composed form.

Two forms: `documents.jsonl` with `{"id", "text"}` a line, or a folder of text files (.txt, .md, .rst, .pod), whose ids
are their paths. The text is kept as it is but for line ends (`\n`), a byte order mark and NFC: every offset counts
characters of that text.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import DataError

DOCUMENTS = "documents.jsonl"
SUFFIXES = (".txt", ".md", ".rst", ".pod")
SHOWN = 20
LONG_LINE = 1_000_000  # characters; longer ones are said on the card


@dataclass(frozen=True)
class Document:
    """One text, under an id that no other has."""

    id: str
    text: str


def read_documents(source: Path) -> list[Document]:
    """The documents of a folder, or of a documents.jsonl. Raises DataError that lists every problem: no documents, an
    empty, binary or non-UTF-8 one, an id that is there twice, a line that is no document."""
    if not source.exists():
        raise DataError("corpus", source, "a folder of documents", "set rag.corpus; `dvc repro faq` makes the default")
    file = source / DOCUMENTS if source.is_dir() else source
    documents, problems = _of_lines(file) if file.is_file() else _of_files(source)
    counts = Counter(one.id for one in documents)
    problems += [f"{source}: id {name!r} is there {n} times" for name, n in counts.items() if n > 1]
    if not documents and not problems:
        wanted = f"{DOCUMENTS}, or files of {', '.join(SUFFIXES)}"
        raise DataError("corpus", f"{source} holds no documents", wanted, "point rag.corpus at your documents")
    refuse(problems, "documents")
    return documents


def refuse(problems: list[str], what: str) -> None:
    """Raise one DataError that lists the problems; nothing where there are none."""
    if problems:
        more = f"\n... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        listed = "\n".join(problems[:SHOWN])
        raise DataError(what, f"{len(problems)} problem(s):\n{listed}{more}", "none of these", "mend or remove them")


def normalized(raw: str) -> str:
    """Line ends as one newline, no byte order mark, NFC."""
    return unicodedata.normalize("NFC", raw.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


def decode(raw: bytes) -> str:
    """Text of a file. Raises ValueError saying why it is none: binary, or not UTF-8."""
    if b"\0" in raw:
        raise ValueError("binary: it holds zero bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise ValueError(f"not UTF-8: byte {raw[err.start]:#04x} at {err.start}") from err


def read_lines(file: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """The JSON objects of a JSONL file with their line numbers from 1, and what is wrong with the others."""
    rows, problems = list[tuple[int, dict[str, Any]]](), list[str]()
    try:
        lines = decode(file.read_bytes()).removeprefix("\ufeff").split("\n")
    except ValueError as err:
        return [], [f"{file}: {err}"]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            problems.append(f"{file}:{number}: no JSON ({err})")
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            problems.append(f"{file}:{number}: no JSON object")
    return rows, problems


def _of_lines(file: Path) -> tuple[list[Document], list[str]]:
    rows, problems = read_lines(file)
    documents = []
    for number, row in rows:
        name, text = row.get("id"), row.get("text")
        if not (isinstance(name, str) and name and isinstance(text, str)):
            problems.append(f"{file}:{number}: expected `id` and `text` as text")
        elif problem := _problem(text):
            problems.append(f"{file}:{number}: document {name} is {problem}")
        else:
            documents.append(Document(name, normalized(text)))
    return documents, problems


def _of_files(folder: Path) -> tuple[list[Document], list[str]]:
    documents, problems = [], []
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        try:
            text = decode(file.read_bytes())
        except ValueError as err:
            problems.append(f"{file}: {err}")
            continue
        if problem := _problem(text):
            problems.append(f"{file}: {problem}")
        else:
            documents.append(Document(file.relative_to(folder).as_posix(), normalized(text)))
    return documents, problems


def _problem(text: str) -> str:
    if not text.strip():
        return "empty"
    if "\0" in text:
        return "binary: it holds zero bytes"
    lone = next((f"U+{ord(c):04X}" for c in text if "\ud800" <= c <= "\udfff"), "")
    return f"no Unicode text: half a character pair, {lone}" if lone else ""
