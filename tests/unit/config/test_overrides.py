"""`key=value` words: what they set, and which are none."""

from __future__ import annotations

import pytest

from slipway.config.overrides import parse_overrides
from slipway.errors import ConfigError


def test_words_become_a_nested_document_and_later_ones_win():
    words = parse_overrides(["train.lr=3.0e-4", "train.seed=1", "train.seed=2", "gate.floors={json_exact: 0.5}"])
    assert words.values == {"train": {"lr": 3.0e-4, "seed": 2}, "gate": {"floors": {"json_exact": 0.5}}}
    assert words.presets == []


def test_layers_with_a_name_is_a_preset_and_with_a_section_a_layer():
    words = parse_overrides(["layers=smoke", "layers.quantize=formats/fp8"])
    assert (words.presets, words.values) == (["smoke"], {"layers": {"quantize": "formats/fp8"}})


def test_values_may_hold_equal_signs_and_interpolations_stay():
    words = parse_overrides(["a.b=x=1", "c.d=${oc.env:NAME}"])
    assert words.values == {"a": {"b": "x=1"}, "c": {"d": "${oc.env:NAME}"}}


@pytest.mark.parametrize(
    "word",
    ["", "train.epochs", "=5", ".a=1", "a.=1", "a..b=1", "[=1", "a=[", "a=${", "a b=1", "a\x00=1", "a={b: 1", "-x=1"],
)
def test_what_is_no_override_is_one_error_that_shows_it(word):
    with pytest.raises(ConfigError, match=r"override: .*expected key=value"):
        parse_overrides(["train.rank=4", word])


def test_the_error_shows_neither_a_password_nor_ten_thousand_signs():
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["tracking uri=http://ann:s3cret-word@host/" + "x" * 10_000])
    assert "s3cret-word" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_values_of_text_keys_are_not_read_as_yaml():
    words = parse_overrides(["a.b=Task: answer", "a.c=3"], holds_text=lambda key: key == "a.b")
    assert words.values == {"a": {"b": "Task: answer", "c": 3}}


@pytest.mark.parametrize(
    ("words", "floors"),
    [
        (["gate.floors={}"], {}),
        (["gate.floors={a: 1}", "gate.floors={}", "gate.floors.b=2"], {"b": 2}),
        (["gate.floors={a: 1}", "gate.floors={b: 2}"], {"a": 1, "b": 2}),
    ],
    ids=str,
)
def test_an_empty_mapping_takes_away_what_stood_before(words, floors):
    assert parse_overrides(words).values == {"gate": {"floors": floors}}
