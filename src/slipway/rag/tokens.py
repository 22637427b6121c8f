"""Tokens of a document with exact character offsets, counted by the embedder's own tokenizer.

    position i of a ruler = the character at which token i begins; position n = the length of the text

so tokens `a` to `b` are characters `position[a]` to `position[b]`, blanks after a token with it. Position 0 is 0: the
pieces of any cut cover the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

I64 = NDArray[np.int64]
LONGEST_CALL = 1_000_000  # characters given to the tokenizer at once


@dataclass(frozen=True)
class Ruler:
    """Token positions of one text, [tokens + 1]."""

    positions: I64

    @property
    def tokens(self) -> int:
        """Tokens of the whole text."""
        return len(self.positions) - 1

    def character(self, token: int) -> int:
        """Where a token begins; the end of the text for the one after the last."""
        return int(self.positions[token])

    def token(self, character: int) -> int:
        """The first token that begins at this character or after it."""
        return int(np.searchsorted(self.positions, character, side="left"))

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in characters `start` to `end`."""
        return self.token(end) - self.token(start) if end > start else 0


def tokenizer_of(document: str | bytes) -> Tokenizer:
    """The tokenizer of a tokenizer.json, without padding and cutting."""
    text = document.decode("utf-8") if isinstance(document, bytes) else document
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def ruler(text: str, tokenizer: Tokenizer) -> Ruler:
    """Token positions of a text. Text too long for one call is cut at line ends, else where it must."""
    starts = [0]
    for begin, end in _parts(text):
        offsets = tokenizer.encode(text[begin:end], add_special_tokens=False).offsets
        starts += [begin + at for at, _ in offsets]
    positions = np.array([*starts[1:], len(text)] if len(starts) > 1 else [0, len(text)], np.int64)
    positions[0] = 0
    return Ruler(np.maximum.accumulate(positions))


def rulers(texts: Sequence[str], tokenizer: Tokenizer) -> list[Ruler]:
    """`ruler` of each text."""
    return [ruler(text, tokenizer) for text in texts]


def _parts(text: str) -> list[tuple[int, int]]:
    parts, begin = [], 0
    while begin < len(text):
        end = min(begin + LONGEST_CALL, len(text))
        if end < len(text) and (line := text.rfind("\n", begin + 1, end)) > begin:
            end = line + 1
        parts.append((begin, end))
        begin = end
    return parts
