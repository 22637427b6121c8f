"""Write the default corpus of retrieval: the Perl and Python FAQs as documents, and their own headings as questions.

    python -m scripts.faq --out data/raw/faq

A heading that is a question becomes a question and is taken out of the text; its gold span is the section below it,
from the first to the last character that is not blank. Sections of fewer than 80 characters keep their text and ask
nothing; index terms (`X<...>`) go from both sides: left in, they put the question's words into the text. So do other
sections that repeat a heading word for word ("see `How do I ...?`"): such a question is left out and counted.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "faq_sources"
SHORTEST = 80  # characters of a section that answers something
LICENSE = "Artistic-1.0-Perl OR GPL-1.0-or-later (Perl FAQ), PSF-2.0 (Python FAQ)"
_ENTITIES = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}
_POD_CODE = re.compile(r"([A-Z])(?:<<+ (.*?) >>+|<([^<>]*)>)", re.DOTALL)


@dataclass
class Section:
    """A heading that may be a question (empty: text before the first) and the text below it."""

    heading: str
    lines: list[str] = field(default_factory=list)


def pod_text(text: str) -> str:
    """A paragraph of POD without its formatting codes; links by their text, else their page."""
    before = ""
    while before != text:
        before, text = text, _POD_CODE.sub(_plain, text)
    return text.replace("\0", "<").replace("\1", ">")


def _plain(match: re.Match[str]) -> str:
    code, content = match[1], match[2] if match[2] is not None else match[3]
    if code in "XZ":
        return ""
    if code == "E":
        return _ENTITIES.get(content, content).replace("<", "\0").replace(">", "\1")
    if code != "L":
        return content.replace("<", "\0").replace(">", "\1")
    shown, bar, target = content.rpartition("|")
    return shown if bar else target if "://" in target else target.split("/")[0].strip('"')


def pod_sections(source: str) -> list[Section]:
    """The sections of a POD document at its `=head2` headings; text of `=head1` headings is kept as a line."""
    sections = [Section("")]
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", source):
        command = re.match(r"=(\w+)\s*(.*)", paragraph, re.DOTALL)
        if command and command[1] == "head2":
            sections.append(Section(" ".join(pod_text(command[2]).split())))
        elif command and command[1] == "head1":
            sections.append(Section(""))
            sections[-1].lines += [pod_text(command[2]).strip(), ""]
        elif command and command[1] == "item":
            sections[-1].lines += [pod_text(command[2]).strip(), ""]
        elif not command:
            verbatim = paragraph[:1] in (" ", "\t")
            sections[-1].lines += [paragraph if verbatim else pod_text(paragraph).strip(), ""]
    return sections


def rst_sections(source: str) -> list[Section]:
    """The sections of a reStructuredText document at headings underlined with `-`; other headings end a section."""
    sections, lines = [Section("")], source.splitlines()
    for at, line in enumerate(lines):
        under = lines[at + 1] if at + 1 < len(lines) else ""
        is_title = bool(line.strip()) and not line[0].isspace() and len(under) >= len(line.strip()) - 2
        if is_title and re.fullmatch(r"-{4,}", under):
            sections.append(Section(_rst_title(line)))
        elif is_title and re.fullmatch(r"={4,}", under):
            sections.append(Section("", [line]))
        elif not re.fullmatch(r"[-=]{4,}|\.\. contents::|\.\. only:: html|:tocdepth:.*", line.strip()):
            sections[-1].lines.append(line)
    return sections


def _rst_title(line: str) -> str:
    return " ".join(re.sub(r":\w+:`([^`]*)`", r"\1", line).replace("``", "").replace("\\", "").split())


def document(name: str, sections: list[Section]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The document of these sections, and its questions, each with the exact span that answers it."""
    text, questions = "", list[dict[str, Any]]()
    for section in sections:
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(section.lines)).strip("\n")
        body = body.rstrip()
        if section.heading and len(body.strip()) >= SHORTEST:
            start = len(text) + len(body) - len(body.lstrip())
            span = {"document": name, "start": start, "end": len(text) + len(body)}
            identity = f"{name}#{len(questions) + 1}"
            questions.append({"id": identity, "text": section.heading, "spans": [span]})
        text += f"{body}\n\n" if body.strip() else ""
    return {"id": name, "text": text}, questions


def corpus() -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """Every document of the sources with its questions, in the order of their names."""
    for file in sorted(SOURCES.glob("perl/*.pod")):
        yield document(file.stem, pod_sections(file.read_text(encoding="utf-8")))
    for file in sorted(SOURCES.glob("python/*.rst")):
        yield document(f"python-{file.stem}", rst_sections(file.read_text(encoding="utf-8")))


def main() -> None:
    """Write `documents.jsonl`, `questions.jsonl` and `LICENSE` into the folder `--out`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    pairs = list(corpus())
    documents = [one for one, _ in pairs]
    flat = [" ".join(one["text"].lower().split()) for one in documents]
    asked = [question for _, questions in pairs for question in questions]
    kept = [q for q in asked if not any(q["text"].lower() in text for text in flat)]
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "documents.jsonl", documents)
    _write(out / "questions.jsonl", kept)
    licences = [SOURCES / "README.md", SOURCES / "perl/LICENSE.Artistic", SOURCES / "python/LICENSE.PSF"]
    text = "\n\n".join(file.read_text(encoding="utf-8") for file in licences)
    (out / "LICENSE").write_text(f"{LICENSE}\n\n{text}", encoding="utf-8")
    print(f"{len(documents)} documents, {sum(len(one['text']) for one in documents):,} characters")
    print(f"{len(kept)} questions; {len(asked) - len(kept)} left out: their text is in a document")


def _write(file: Path, rows: list[Any]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
