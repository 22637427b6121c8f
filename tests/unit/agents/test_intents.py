"""The 24 intents as tools: their schemas, their digest, what is wrong with an answer."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scripts import corpus
from slipway.agents.intents import INTENTS, answer_schema, openai_tools, problem_of, tools_digest


def test_they_are_the_corpus_s_intents() -> None:
    assert tuple(INTENTS) == corpus.INTENTS


def test_the_schemas_are_schemas_and_hold_an_answer_to_its_own_slots() -> None:
    schema = answer_schema()
    Draft202012Validator.check_schema(schema)
    valid = Draft202012Validator(schema).is_valid
    assert valid({"intent": "HassTurnOn", "name": "tv"})
    assert not valid({"intent": "HassTurnOn", "temperature": 20})
    assert not valid({"intent": "HassDance"})
    assert [next(iter(one["properties"])) for one in schema["anyOf"]] == ["intent"] * 24
    # a grammar writes what is required first, whatever the order of the properties
    assert [one["required"] for one in schema["anyOf"]] == [["intent"]] * 24
    for tool in openai_tools():
        Draft202012Validator.check_schema(tool["function"]["parameters"])
    assert len(openai_tools()) == 24


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"intent": "HassTurnOn", "name": "tv"}, ""),
        ({"intent": "HassSetVolumeRelative", "volume_step": -5}, ""),
        ({"intent": "HassSetVolumeRelative", "volume_step": "down"}, ""),
        ([], "no JSON object"),
        ({"intent": "HassDance"}, "no tool 'HassDance'"),
        ({"intent": 7}, "no tool '7'"),
        ({"name": "tv"}, "no tool 'None'"),
        ({"intent": "HassTurnOn"}, "needs one of name, domain, device_class"),
        ({"intent": "HassStartTimer", "name": "tea"}, "needs one of hours, minutes, seconds"),
        ({"intent": "HassTurnOff", "area": "kitchen", "temperature": 20, "name": "tv"}, "temperature"),
        ({"intent": "HassSetVolume", "volume_level": 101}, "volume_level: 101"),
        ({"intent": "HassSetVolume", "volume_level": "loud"}, "volume_level: 'loud'"),
        ({"intent": "HassSetVolume", "volume_level": True}, "volume_level: True"),
        ({"intent": "HassTurnOn", "name": ""}, "name"),
    ],
)
def test_what_is_wrong_with_an_answer(answer: Any, problem: str) -> None:
    shown = problem_of(answer)
    assert problem in shown and bool(shown) == bool(problem)


def test_the_digest_covers_what_a_model_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tools_digest()
    assert before == tools_digest()
    monkeypatch.setattr("slipway.agents.intents.INTENTS", {"HassTurnOn": INTENTS["HassTurnOn"]})
    assert tools_digest() != before
