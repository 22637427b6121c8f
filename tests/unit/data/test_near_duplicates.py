import random
from itertools import product

import pytest

from slipway.data.near_duplicates import NearIndex, bigrams, jaccard
from slipway.data.rows import Row, prompt, words


def row(text: str, answer: str = "{}") -> Row:
    return {"id": text, "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}


def test_similarity_by_hand() -> None:
    """^a ab bc c$ against ^a ab bd d$: two of six."""
    assert jaccard(bigrams("a b c"), bigrams("a b d")) == pytest.approx(2 / 6)
    assert jaccard(bigrams("Turn it on!"), bigrams("turn it  on")) == 1.0
    assert jaccard(bigrams("on"), bigrams("off")) == 0.0


def test_words_fold_case_width_and_punctuation_but_keep_what_has_no_words() -> None:
    assert words("Set it to 50%, PLEASE") == ["set", "it", "to", "50", "please"]
    assert words("５０") == ["50"]  # noqa: RUF001 (full-width digits)
    assert words("?! ...") == ["?!", "..."]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_the_index_finds_exactly_what_comparing_all_pairs_finds(threshold: float) -> None:
    rng = random.Random(5)
    rows = [row(" ".join(rng.choices("abcdefgh", k=rng.randint(1, 9))), rng.choice(["x", "y"])) for _ in range(300)]
    index = NearIndex(rows[:150], threshold)
    for r in rows[:150]:
        index.add(r)
    hits = 0
    for r in rows[150:]:
        near = (
            k for k in rows[:150] if _same_answer(k, r) and jaccard(bigrams(prompt(k)), bigrams(prompt(r))) >= threshold
        )
        expected = next(near, None)
        assert index.find(r) is expected
        hits += expected is not None
    assert 0 < hits < 150


def _same_answer(a: Row, b: Row) -> bool:
    return bool(a["messages"][-1] == b["messages"][-1])


def test_near_texts_with_different_answers_are_no_duplicates() -> None:
    on, off = (
        row("turn on the kitchen light over there", '{"intent":"On"}'),
        row("turn on the kitchen light over here", '{"intent":"Off"}'),
    )
    index = NearIndex([on, off], 0.5)
    index.add(on)
    assert index.find(off) is None


@pytest.mark.parametrize(("a", "b"), list(product(['{"a":1,"b":2}', '{"b": 2, "a": 1}'], repeat=2)))
def test_json_answers_are_compared_by_value(a: str, b: str) -> None:
    index = NearIndex([row("hello", a)], 1.0)
    index.add(row("hello", a))
    assert index.find(row("hello", b)) is not None
