"""Sentences: exact spans that cover the text."""

from __future__ import annotations

import random

from slipway.rag.sentences import sentence_spans


def pieces(text: str) -> list[str]:
    return [text[a:b] for a, b in sentence_spans(text)]


def test_sentences_end_at_signs_blank_lines_and_list_items() -> None:
    assert pieces('One. Two? "Three!" Four\n\nfive\n- six\n2. seven') == [
        "One. ", "Two? ", '"Three!" ', "Four\n\n", "five\n", "- six\n", "2. seven",
    ]  # fmt: skip
    assert pieces("v1.5 is e.g. small") == ["v1.5 is e.g. small"]
    assert pieces("") == []


def test_blanks_before_the_first_sentence_are_its_own() -> None:
    assert pieces("\n\nA b.\n\n") == ["\n\nA b.\n\n"]


def test_no_character_is_lost_in_random_text() -> None:
    random.seed(1)
    for _ in range(300):
        text = "".join(
            random.choice(["a", "B", ". ", "? ", "\n", "\n\n", " ", "- ", "1) ", "é", '"']) for _ in range(60)
        )
        assert "".join(pieces(text)) == text
        assert all(not piece.isspace() for piece in pieces(text)[:-1])
