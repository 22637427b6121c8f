"""Token positions: exact offsets, whatever the text."""

from __future__ import annotations

import random

import pytest

from slipway.rag import tokens
from slipway.rag.tokens import ruler, rulers, tokenizer_of
from tests.support.pico_embedder import tokenizer


def test_positions_begin_at_each_token_and_cover_the_text() -> None:
    text = "  How do\tI?\n"
    measured = ruler(text, tokenizer())
    assert measured.positions.tolist() == [0, 6, 9, 10, 12]
    assert measured.tokens == 4
    assert [text[measured.character(a) : measured.character(a + 1)] for a in range(4)] == ["  How ", "do\t", "I", "?\n"]
    assert (measured.token(6), measured.token(7), measured.count(0, 12), measured.count(6, 6)) == (1, 2, 4, 0)


def test_text_without_tokens_is_one_piece() -> None:
    assert ruler(" \n ", tokenizer()).positions.tolist() == [0, 3]


def test_parts_of_a_long_text_give_the_positions_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(0)
    text = "".join(random.choice(["how ", "do i\n", "sort, ", "\n\n", "äß "]) for _ in range(300))
    whole = ruler(text, tokenizer()).positions.tolist()
    monkeypatch.setattr(tokens, "LONGEST_CALL", 50)
    assert ruler(text, tokenizer()).positions.tolist() == whole
    assert [one.tokens for one in rulers(["how", "how do"], tokenizer())] == [1, 2]


def test_a_tokenizer_neither_pads_nor_cuts() -> None:
    padded = tokenizer()
    padded.enable_truncation(4)
    padded.enable_padding(length=8)
    assert len(tokenizer_of(padded.to_str().encode()).encode("how do i sort a list", add_special_tokens=False).ids) == 6
