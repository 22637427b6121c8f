"""What counts when texts are compared."""

from __future__ import annotations

import pytest

from slipway.data.text import folded, tokens, words


@pytest.mark.parametrize(
    ("a", "b"),
    [("C++", "C#"), ("x<y", "x>y"), ("दिन", "दीन"), ("ok 😀", "ok 😢"), ("a=1", "a≠1"), ("ทำ", "ทา"), ("100%", "100€")],
)
def test_symbols_emoji_and_combining_marks_make_texts_differ(a: str, b: str) -> None:
    assert tokens(a) != tokens(b)
    assert folded(a) != folded(b)


def test_case_width_spacing_and_sentence_punctuation_make_no_other_tokens() -> None:
    assert tokens("Turn it ON, please!") == tokens("turn  it on please") == ["turn", "it", "on", "please"]
    assert tokens("５０。") == ["50"]  # noqa: RUF001 (full-width digits)
    assert tokens("?! ...") == ["?!", "..."]
    assert folded("Cafe\u0301  au\nlait") == folded("caf\u00e9 AU lait")
    assert folded("on!") != folded("on")


def test_a_word_keeps_its_marks_and_scripts_without_spaces_are_split_into_characters() -> None:
    assert tokens("दिन अच्छा") == ["दिन", "अच्छा"]
    assert tokens("打开灯 lamp2") == ["打", "开", "灯", "lamp2"]
    assert tokens("กี่") == ["กี่"]


def test_words_are_tokens_with_a_letter_or_digit() -> None:
    assert words("set it to 20 % + 3") == ["set", "it", "to", "20", "3"]
    assert words("++") == ["+", "+"]
