"""Repeated 8-grams of long answers."""

from __future__ import annotations

import pytest

from slipway.evaluation.repetition import repeated_share


def test_short_answers_have_no_value() -> None:
    assert repeated_share(" ".join(map(str, range(31)))) is None
    assert repeated_share("") is None


def test_text_that_says_nothing_twice_has_none_and_a_loop_nearly_all() -> None:
    assert repeated_share(" ".join(map(str, range(32)))) == 0
    assert repeated_share("again " * 100) == pytest.approx(1 - 1 / 93)
    assert repeated_share(" ".join([*map(str, range(40)), *map(str, range(40))])) == pytest.approx(1 - 40 / 73)


def test_a_script_without_spaces_is_read_by_characters() -> None:
    assert repeated_share("我不知道" * 30) == pytest.approx(1 - 4 / 113)
