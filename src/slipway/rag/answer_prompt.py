"""What a model is asked with retrieved text, and what its answer says of it: citations and refusals.

Text of documents enters the user turn alone, between markers, each passage with its number; a marker inside of a
document is taken apart, so that no document can end its own passage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BEGIN, END = "<passage", "</passage>"
PASSAGES, QUESTION = "{passages}", "{question}"
_WORD = re.compile(r"[^\W_]+")
_MARKER = re.compile(r"<(?=/?passage)", re.IGNORECASE)
_CITED = re.compile(r"\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")


@dataclass(frozen=True)
class Passage:
    """A piece of a document that is given to a model."""

    document: str
    text: str


def user_turn(template: str, question: str, passages: Sequence[Passage]) -> str:
    """The turn that asks: `{passages}` and `{question}` of the template filled in; braces elsewhere stay."""
    shown = "\n".join(
        f"{BEGIN} {number}>\n{_MARKER.sub('< ', one.text).strip()}\n{END}" for number, one in enumerate(passages, 1)
    )
    parts = re.split(f"({re.escape(PASSAGES)}|{re.escape(QUESTION)})", template)
    filled = {PASSAGES: shown or "(none)", QUESTION: question}
    return "".join(filled.get(part, part) for part in parts)


def cited(answer: str) -> list[int]:
    """Numbers of the passages that an answer names in brackets, `[1]` or `[1, 3]`, each once, in their order."""
    numbers = (int(number) for group in _CITED.findall(answer) for number in re.findall(r"\d+", group))
    return list(dict.fromkeys(numbers))


def without_citations(answer: str) -> str:
    """The answer without its numbers in brackets."""
    return _CITED.sub(" ", answer)


def refuses(answer: str, phrase: str) -> bool:
    """Whether an answer holds the phrase that says that nothing is known, whatever its case and punctuation."""
    return _plain(phrase) in _plain(answer)


def _plain(text: str) -> str:
    """Words of a text with blanks around: `I don't know.` is ` i don t know `."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
