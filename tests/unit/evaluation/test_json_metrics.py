"""JSON answers: equal by value, valid as RFC 8259 and a schema say."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.errors import ConfigError
from slipway.evaluation.json_metrics import exact, parse, valid
from slipway.evaluation.scorer import Example


def example(expected: str, answer: str) -> Example:
    return Example({"messages": [{"role": "assistant", "content": expected}]}, answer)


WANTED = '{"intent":"On","level":1}'


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (' {"level": 1, "intent": "On"}\n', 1),
        ('{"intent":"On","level":1.0}', 1),
        ('{"intent":"On","level":10e-1}', 1),
        ('{"intent":"On","level":"1"}', 0),
        ('{"intent":"On","level":true}', 0),
        ('{"intent":"On"}', 0),
        ('{"intent":"On","level":1,"x":0}', 0),
        ('{"intent":"Off","intent":"On","level":1}', 0),
        ('```json\n{"intent":"On","level":1}\n```', 0),
        ("", 0),
    ],
)
def test_numbers_count_by_value_keys_in_any_order_types_matter(answer: str, value: float) -> None:
    assert exact().score(example(WANTED, answer)) == value


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [
        ("[1, 2]", "[1,2.0]", 1),
        ("[1, 2]", "[2, 1]", 0),
        ("0.1", "0.10", 1),
        ("9007199254740993", "9007199254740992", 0),
        ("null", "null", 1),
        ('"caf\\u00e9"', '"café"', 1),
        ("not JSON", "not JSON", None),
    ],
)
def test_any_json_value_is_compared(expected: str, answer: str, value: float | None) -> None:
    assert exact().score(example(expected, answer)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        '{"a":1} and more',
        '{"a":',
        "[" * 100_000,
        "NaN",
        "[Infinity]",
        '{"a":1,"a":1}',
        "1e99999999999999999999",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_what_is_no_json_is_invalid_and_no_error(text: str) -> None:
    assert parse(text)[0] is False
    assert valid(None).score(example("{}", text)) == 0


@pytest.mark.parametrize("text", ["{}", " [1]", '"\\ud800"'])
def test_json_is_valid(text: str) -> None:
    assert valid(None).score(example("{}", text)) == 1


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["intent"],
    "properties": {"intent": {"enum": ["On", "Off"]}, "level": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("answer", "value"),
    [('{"intent":"On"}', 1), ('{"intent":"On","level":2}', 1), ('{"intent":"Dim"}', 0), ("[]", 0), ("", 0)],
)
def test_a_schema_decides_what_is_valid(answer: str, value: float) -> None:
    assert valid(SCHEMA).score(example("{}", answer)) == value


def test_a_schema_that_points_to_the_net_is_refused_and_not_fetched() -> None:
    scorer = valid({"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(ConfigError, match="schema whole in itself"):
        scorer.score(example("{}", "{}"))
