"""Overlap of free text: hand-made figures, and the libraries' own."""

from __future__ import annotations

import pytest
from sacrebleu import sentence_chrf

from slipway.evaluation.overlap_metrics import chrf, rouge_l, token_f1, words
from slipway.evaluation.scorer import Example, Scorer


def value(scorer: Scorer, expected: str, answer: str) -> float | None:
    return scorer.score(Example({"messages": [{"role": "assistant", "content": expected}]}, answer))


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("The cat's 2 mats.", ["the", "cat", "s", "2", "mats"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我不知道 ok", ["我", "不", "知", "道", "ok"]),
        ("caf\u0065\u0301", ["caf\u00e9"]),
        ("... \ud800", []),
    ],
)
def test_words_are_runs_of_letters_marks_and_digits(text: str, units: list[str]) -> None:
    assert words(text) == units


@pytest.mark.parametrize(
    ("expected", "answer", "f1", "rouge"),
    [
        ("the cat sat", "the cat sat", 1, 1),
        ("the cat sat", "sat cat the", 1, 2 / 6),
        ("the cat sat", "the dog sat there", 4 / 7, 4 / 7),
        ("a a b", "a b b", 4 / 6, 4 / 6),
        ("the cat", "", 0, 0),
        ("", "", 1, 1),
        ("", "x", 0, 0),
    ],
)
def test_words_in_common_and_in_order(expected: str, answer: str, f1: float, rouge: float) -> None:
    assert value(token_f1(), expected, answer) == pytest.approx(f1)
    assert value(rouge_l(), expected, answer) == pytest.approx(rouge)


@pytest.mark.parametrize("answer", ["the cat sat on the mat", "a cat", "zzz"])
def test_chrf_is_sacrebleus_as_a_share(answer: str) -> None:
    reference = "the cat sat on a mat"
    assert value(chrf(), reference, answer) == pytest.approx(sentence_chrf(answer, [reference]).score / 100)


@pytest.mark.parametrize(("expected", "answer", "score"), [("", "", 1), ("x", " ", 0), ("", "x", 0)])
def test_empty_text_has_a_value(expected: str, answer: str, score: float) -> None:
    assert value(chrf(), expected, answer) == score


def test_half_a_surrogate_pair_is_text_like_any_other() -> None:
    for scorer in (chrf(), token_f1(), rouge_l()):
        score = value(scorer, "the cat", "the \ud800 cat")
        assert score is not None
        assert 0 < score <= 1
