"""Chunkers: offsets exact, the text covered, limits kept; on text that nobody wrote for them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from slipway.config.rag import FixedStrategy, RecursiveStrategy, SemanticStrategy, WindowStrategy
from slipway.rag.chunking import Chunk, by_tokens, chunks_of, recursive
from slipway.rag.documents import Document
from slipway.rag.tokens import ruler
from tests.support.pico_embedder import WORDS, tokenizer

STRATEGIES = [
    FixedStrategy(tokens=8, overlap=0),
    FixedStrategy(tokens=9, overlap=3),
    RecursiveStrategy(tokens=8),
    SemanticStrategy(percentile=70, max_tokens=9),
    WindowStrategy(sentences=2, around=1, max_tokens=8),
]
TOKENIZER = tokenizer()


def by_letters(texts: list[str]) -> np.ndarray:
    """Unit vectors of letters, so that like texts are near."""
    rows = np.array([[text.count(c) for c in "abcdefghij"] for text in texts], np.float32) + 0.1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_text(seed: int) -> str:
    random.seed(seed)
    signs = [". ", "? ", "\n", "\n\n", "  ", ", ", " - ", "\t", "\u00a0", "😀"]
    words = [
        random.choice(WORDS) + random.choice([" ", " ", random.choice(signs)]) for _ in range(random.randint(0, 90))
    ]
    return random.choice(["", "\n\n", " "]) + "".join(word.title() if random.random() < 0.3 else word for word in words)


def cut(text: str, strategy) -> list[Chunk]:
    return chunks_of(Document("d", text), ruler(text, TOKENIZER), strategy, by_letters)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.kind)
def test_searched_spans_cover_the_text_in_order_within_their_limit(strategy) -> None:
    for seed in range(60):
        text = random_text(seed)
        chunks, covered = cut(text, strategy), 0
        measured = ruler(text, TOKENIZER)
        for chunk in chunks:
            assert text[covered : chunk.start].strip() == "", "characters left out"
            assert 0 <= chunk.context_start <= chunk.start < chunk.end <= chunk.context_end <= len(text)
            assert chunk.tokens == measured.count(chunk.context_start, chunk.context_end)
            covered = max(covered, chunk.end)
            if strategy.kind != "sentence-window":
                assert chunk.tokens <= (getattr(strategy, "tokens", None) or strategy.max_tokens)
        assert text[covered:].strip() == ""
        assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_fixed_chunks_repeat_the_end_of_the_one_before() -> None:
    text = "how do i sort a list of names"
    chunks = cut(text, FixedStrategy(tokens=8, overlap=2).model_copy(update={"tokens": 4}))
    assert [text[c.start : c.end] for c in chunks] == ["how do i sort ", "i sort a list ", "a list of names"]


def test_recursive_cuts_at_the_largest_separator_and_merges() -> None:
    text = "How do. I sort.\n\nA list.\nOf names."
    measured = ruler(text, TOKENIZER)
    assert [text[a:b] for a, b in recursive(text, measured, 6)] == ["How do. I sort.\n\n", "A list.\nOf names."]
    assert [text[a:b] for a, b in recursive(text, measured, 3)] == ["How do. ", "I sort.\n\n", "A list.\n", "Of names."]
    words = "how do i sort"
    assert [words[a:b] for a, b in recursive(words, ruler(words, TOKENIZER), 2)] == ["how do ", "i sort"]


def test_one_long_word_is_cut_by_tokens() -> None:
    text = ",".join(["how"] * 20)
    cuts = by_tokens((0, len(text)), ruler(text, TOKENIZER), 8)
    assert "".join(text[a:b] for a, b in cuts) == text and len(cuts) == 5


def test_semantic_cuts_where_neighbours_differ() -> None:
    text = "Bad bad. Bad bad. Bad bad. High high. High high. High high."
    chunks = cut(text, SemanticStrategy(percentile=75, max_tokens=512))
    assert [text[c.start : c.end] for c in chunks] == [
        "Bad bad. Bad bad. Bad bad. ",
        "High high. High high. High high.",
    ]


def test_a_window_gives_the_sentences_around() -> None:
    text = "How. Do. I. Sort. A. List."
    chunks = cut(text, WindowStrategy(sentences=2, around=1))
    assert [text[c.start : c.end] for c in chunks] == ["How. Do. ", "I. Sort. ", "A. List."]
    assert [text[c.context_start : c.context_end] for c in chunks] == [
        "How. Do. I. ",
        "Do. I. Sort. A. ",
        "Sort. A. List.",
    ]
