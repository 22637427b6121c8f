"""Bigrams, and what many rows share set aside."""

from __future__ import annotations

import numpy as np

from slipway.data.shingles import Sets, mixed, shingles, spans
from tests.support.tables import chat, every, table

INSTRUCTION = "You are given a sentence and must say whether its tone is friendly or not"


def shared_of(sets: Sets, a: int, b: int) -> tuple[int, int]:
    """Bigrams that two rows share, and that either has."""
    one, other = (set(sets.grams[sets.starts[i] : sets.starts[i + 1]].tolist()) for i in (a, b))
    return len(one & other), len(one | other)


def test_bigrams_by_hand() -> None:
    """^a ab bc c$ against ^a ab bd d$: two of six; words in another case or between other marks are the same."""
    made = table([chat("a b c"), chat("a b d"), chat("A, b! c"), chat("on")])
    sets = shingles(made, every(made)).whole
    assert shared_of(sets, 0, 1) == (2, 6)
    assert shared_of(sets, 0, 2) == (4, 4)
    assert sets.sizes.tolist() == [4, 4, 4, 2]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    made = table([chat("请打开客厅的灯"), chat("请打开卧室的灯"), chat("ปิดไฟ"), chat("เปิดไฟ")])
    sets = shingles(made, every(made)).whole
    assert shared_of(sets, 0, 1) == (5, 11)
    assert shared_of(sets, 2, 3)[0] > 0


def test_a_passage_that_many_rows_share_is_set_aside() -> None:
    rows = [f"{INSTRUCTION}: {word} {word}" for word in "abcdefghijkl"]
    made = table([chat(text) for text in rows])
    result = shingles(made, every(made))
    assert result.own is not None
    together, either = shared_of(result.whole, 0, 1)
    assert together / either > 0.7
    assert shared_of(result.own, 0, 1)[0] == 0
    assert not result.covered.any()
    few = shingles(made, every(made)[:2])
    assert few.own is None, "two rows are not many"


def test_a_prompt_of_shared_passages_only_is_judged_by_all_of_it() -> None:
    rows = [chat(INSTRUCTION, str(i)) for i in range(12)] + [chat(f"{INSTRUCTION} now")]
    made = table(rows)
    result = shingles(made, every(made))
    assert result.covered.tolist() == [True] * 12 + [False]
    assert result.own is not None
    assert shared_of(result.own, 0, 1) == (16, 16)


def test_a_system_prompt_that_many_rows_have_does_not_count_and_a_rare_one_does() -> None:
    rows = [chat(f"w{i} x", system="be brief") for i in range(12)] + [chat("hello", system="you are Ann")]
    made = table(rows)
    sets = shingles(made, every(made)).whole
    assert sets.sizes.tolist() == [3] * 12 + [5]


def test_rows_may_be_chosen() -> None:
    made = table([chat("a b"), chat("c d e"), chat("f")])
    sets = shingles(made, every(made)).of(np.array([2, 0]))
    assert sets.whole.sizes.tolist() == [2, 3]
    assert len(sets.whole) == 2


def test_spans_and_mixing() -> None:
    assert spans(np.array([5, 0]), np.array([2, 3])).tolist() == [5, 6, 0, 1, 2]
    assert spans(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
    assert len(np.unique(mixed(np.arange(1000, dtype=np.uint64)))) == 1000
