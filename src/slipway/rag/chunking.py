"""Chunks: pieces of a document by exact character offsets. Four ways to cut; text is never copied altered.

    fixed            windows of equally many tokens, each repeating the end of the one before
    recursive        paragraphs, else lines, else sentences, else words, merged in order up to a limit
    semantic         sentences, cut where neighbours are least alike (embedded), and at a limit
    sentence-window  a few sentences are searched; those around them are given with them

In all of them: the searched spans of a document cover its text in order, no chunk has more tokens than its limit, and
spans of blanks are left out. `tokens` counts the context: what a chunk costs the reader.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.config.rag import FixedStrategy, RecursiveStrategy, SemanticStrategy, WindowStrategy
from slipway.rag.documents import Document
from slipway.rag.sentences import sentence_spans
from slipway.rag.tokens import Ruler

Cut = tuple[int, int]
Strategy = FixedStrategy | RecursiveStrategy | SemanticStrategy | WindowStrategy
SentenceVectors = Callable[[Sequence[str]], NDArray[np.float32]]
_SEPARATORS = (re.compile(r"\n[ \t]*\n\s*"), re.compile(r"\n"), None, re.compile(r"\s+"))  # None: sentences


@dataclass(frozen=True)
class Chunk:
    """Characters `start` to `end` of a document are searched, `context_start` to `context_end` given; tokens of the
    latter."""

    document: str
    start: int
    end: int
    context_start: int
    context_end: int
    tokens: int

    @property
    def id(self) -> str:
        """`document:start-end`."""
        return f"{self.document}:{self.start}-{self.end}"

    def to_json(self) -> dict[str, Any]:
        """The chunk as a line of chunks.jsonl."""
        return dict(vars(self))


def chunks_of(
    document: Document, ruler: Ruler, strategy: Strategy, sentence_vectors: SentenceVectors | None = None
) -> list[Chunk]:
    """The chunks of a document, in order. `sentence_vectors`: unit vectors of texts, [n, dimension]; for `semantic`."""
    text = document.text
    if isinstance(strategy, WindowStrategy):
        return [one for one in _windows(document, ruler, strategy) if text[one.start : one.end].strip()]
    if isinstance(strategy, FixedStrategy):
        cuts = list(_fixed(ruler, strategy))
    elif isinstance(strategy, RecursiveStrategy):
        cuts = recursive(text, ruler, strategy.tokens)
    else:
        assert sentence_vectors is not None
        cuts = _semantic(text, ruler, strategy, sentence_vectors)
    return [Chunk(document.id, a, b, a, b, ruler.count(a, b)) for a, b in cuts if text[a:b].strip()]


def _fixed(ruler: Ruler, strategy: FixedStrategy) -> Iterator[Cut]:
    step = strategy.tokens - strategy.overlap
    for first in range(0, ruler.tokens, step):
        last = min(first + strategy.tokens, ruler.tokens)
        yield ruler.character(first), ruler.character(last)
        if last == ruler.tokens:
            return


def recursive(text: str, ruler: Ruler, most: int) -> list[Cut]:
    """Spans of at most `most` tokens that cover the text: the largest separators first, small neighbours merged."""
    return _merged(_pieces(text, (0, len(text)), ruler, most, 0), ruler, most)


def _pieces(text: str, span: Cut, ruler: Ruler, most: int, level: int) -> list[Cut]:
    """Spans that fit, cut at the highest separator that a longer one has."""
    if ruler.count(*span) <= most:
        return [span]
    if level == len(_SEPARATORS):
        return by_tokens(span, ruler, most)
    parts = _separated(text, span, level)
    return [piece for part in parts for piece in _pieces(text, part, ruler, most, level + 1)]


def _separated(text: str, span: Cut, level: int) -> list[Cut]:
    start, end = span
    separator = _SEPARATORS[level]
    if separator is None:
        return [(start + a, start + b) for a, b in sentence_spans(text[start:end])]
    bounds = [start, *(m.end() for m in separator.finditer(text, start, end) if start < m.end() < end), end]
    return list(itertools.pairwise(bounds))


def by_tokens(span: Cut, ruler: Ruler, most: int) -> list[Cut]:
    """A span cut after every `most` tokens."""
    first, last = ruler.token(span[0]), ruler.token(span[1])
    inner = [ruler.character(at) for at in range(first + most, last, most)]
    bounds = [span[0], *(at for at in inner if span[0] < at < span[1]), span[1]]
    return list(itertools.pairwise(bounds))


def _merged(pieces: Sequence[Cut], ruler: Ruler, most: int) -> list[Cut]:
    """Neighbours joined while they fit."""
    spans: list[Cut] = []
    for start, end in pieces:
        if spans and ruler.count(spans[-1][0], end) <= most:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _limited_sentences(text: str, ruler: Ruler, most: int) -> list[Cut]:
    return [cut for span in sentence_spans(text) for cut in by_tokens(span, ruler, most)]


def _semantic(text: str, ruler: Ruler, strategy: SemanticStrategy, vectors: SentenceVectors) -> list[Cut]:
    sentences = list(_limited_sentences(text, ruler, strategy.max_tokens))
    if len(sentences) < 3:
        return _merged(sentences, ruler, strategy.max_tokens)
    embedded = vectors([text[a:b] for a, b in sentences])
    distances = 1 - np.einsum("ij,ij->i", embedded[:-1], embedded[1:])
    cuts = distances > np.percentile(distances, strategy.percentile)
    groups: list[list[Cut]] = [[sentences[0]]]
    for sentence, is_cut in zip(sentences[1:], cuts.tolist(), strict=True):
        if is_cut:
            groups.append([])
        groups[-1].append(sentence)
    return [cut for group in groups for cut in _merged(group, ruler, strategy.max_tokens)]


def _windows(document: Document, ruler: Ruler, strategy: WindowStrategy) -> Iterator[Chunk]:
    sentences = _limited_sentences(document.text, ruler, strategy.max_tokens)
    for first in range(0, len(sentences), strategy.sentences):
        last = min(first + strategy.sentences, len(sentences)) - 1
        before = sentences[max(first - strategy.around, 0)][0]
        after = sentences[min(last + strategy.around, len(sentences) - 1)][1]
        start, end = sentences[first][0], sentences[last][1]
        yield Chunk(document.id, start, end, before, after, ruler.count(before, after))
