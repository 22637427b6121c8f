"""Answers as text: equal, containing, by pattern, by number."""

from __future__ import annotations

from decimal import Decimal

import pytest

from slipway.errors import ConfigError
from slipway.evaluation.scorer import Example, Scorer
from slipway.evaluation.text_metrics import contains, exact, is_number, last_number, matches, normaliser, numeric

PLAIN = normaliser(ignore_case=False, ignore_punctuation=False)
LOOSE = normaliser(ignore_case=True, ignore_punctuation=True)


def value(scorer: Scorer, expected: str, answer: str) -> float | None:
    return scorer.score(Example({"messages": [{"role": "assistant", "content": expected}]}, answer))


@pytest.mark.parametrize(
    ("expected", "answer", "plain", "loose"),
    [
        ("Paris", " Paris\n", 1, 1),
        ("caf\u00e9", "cafe\u0301", 1, 1),
        ("Paris", "paris.", 0, 1),
        ("STRASSE", "straße", 0, 1),
        ("दिन", "दीन", 0, 0),
        ("C++", "C#", 0, 0),
        ("x<y", "x>y", 0, 0),
        ("yes", "", 0, 0),
        ("a b", "a-b", 0, 1),
        ("a", "a\ud800", 0, 0),
    ],
)
def test_texts_are_equal_composed_and_trimmed(expected: str, answer: str, plain: float, loose: float) -> None:
    assert (value(exact(PLAIN), expected, answer), value(exact(LOOSE), expected, answer)) == (plain, loose)


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [("Paris", "It is Paris, of course", 1), ("Paris", "It is paris", 0), ("", "anything", None)],
)
def test_the_reference_stands_somewhere_in_the_answer(expected: str, answer: str, score: float | None) -> None:
    assert value(contains(PLAIN), expected, answer) == score


@pytest.mark.parametrize(
    ("answer", "score"),
    [("so 3 + 4 = 7\n#### 7", 1), ("#### 6\nno, #### 7", 1), ("#### 8", 0), ("7", 0), ("", 0)],
)
def test_the_last_match_of_a_pattern_counts(answer: str, score: float) -> None:
    assert value(matches(r"#### (\S+)", PLAIN), "because\n#### 7", answer) == score
    assert value(matches(r"#### (\S+)", PLAIN), "no mark", answer) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it costs 1,234.50 euro", "1234.50"),
        ("-3 or \u22124", "-4"),
        ("from 3-4", "4"),
        (".5", "0.5"),
        ("2e-3.", "0.002"),
        ("the answer is 42.", "42"),
        ("1, 2, 3", "3"),
        ("\uff11\uff12", "12"),
        ("v1.2.3", None),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_numbers_agree_within_the_larger_tolerance() -> None:
    assert value(numeric(0, 0), "7", "so it is 7.0") == 1
    assert value(numeric(0, 0), "7", "7.01") == 0
    assert value(numeric(0.1, 0), "7", "7.1") == 1
    assert value(numeric(0, 0.01), "700", "706") == 1
    assert value(numeric(0, 0.01), "-700", "708") == 0
    assert value(numeric(0, 0), "7", "seven") == 0
    assert value(numeric(0, 0), "seven", "7") is None


@pytest.mark.parametrize(("text", "number"), [("7", True), (" -1,000.5 ", True), ("7 apples", False), ("", False)])
def test_a_number_alone(text: str, number: bool) -> None:
    assert is_number(text) is number


def test_a_pattern_whose_search_never_ends_is_named(monkeypatch):
    monkeypatch.setattr("slipway.evaluation.text_metrics.LONGEST_MATCH_S", 0.05)
    scorer = matches(r"^(a|aa)+$", PLAIN)
    assert value(scorer, "aaa", "aaa") == 1
    with pytest.raises(ConfigError, match=r"evaluate\.pattern: \^\(a\|aa\)\+\$; .*did not end on 'aaaa"):
        value(scorer, "aaa", "a" * 60 + "!")
