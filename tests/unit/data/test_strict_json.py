"""JSON that could be read in two ways, or not be written again, is refused by name in a short message."""

from __future__ import annotations

import json

import pytest

from slipway.data.strict_json import depth_problem, encode, parse, parse_from, shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ("[1e999]", "beyond a double's range"),
        ("[" + "9" * 5000 + "]", "number of 5000 digits"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ', "not JSON: Expecting value at character 7"),
        ('{"' + "k" * 9000 + '": 1, "' + "k" * 9000 + '": 2}', "stands twice"),
        ("{} {}", "Extra data"),
    ],
)
def test_what_is_ambiguous_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as err:
        parse(text)
    assert len(str(err.value)) < 200


def test_values_are_read_as_written() -> None:
    text = '{"big": 123456789012345678901234567890, "sep": "a\u2028b\x85c", "half": 0.5}'
    assert parse(text) == json.loads(text)
    assert parse_from('x {"a": 1} y', 2) == ({"a": 1}, 10)
    with pytest.raises(json.JSONDecodeError):
        parse_from('{"a": ', 0)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_from("[" * 100_000, 0)


def test_half_a_surrogate_pair_is_refused_and_a_pair_is_a_character() -> None:
    assert encode(parse('"\\ud83d\\ude00"')) == '"\U0001f600"'.encode()
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        encode(parse('"\\ud83d"'))


def test_values_in_messages_are_cut() -> None:
    assert shown("x" * 1_000_000).startswith("'xxx")
    assert len(shown("x" * 1_000_000)) < 100
    assert shown(list(range(1000))) == "a list of 1000"
    assert shown("\ud800") == "'\\ud800'"


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(150):
        deep = {"a": [deep]}
    assert depth_problem(deep) is not None
    assert depth_problem({"a": [{"b": 1}]}) is None
