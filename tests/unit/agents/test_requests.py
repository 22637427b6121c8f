"""Requests split into commands, and completed from memory."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.agents.home import Refusal
from slipway.agents.requests import Memory, from_memory, parts_of, without_pronoun
from tests.support.commands import SMALL


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ("turn off the tv", ["turn off the tv"]),
        ("turn off the tv and lock the door", ["turn off the tv", "lock the door"]),
        (
            "turn off the tv, then lock the door, and then dim the den",
            ["turn off the tv", "lock the door", "dim the den"],
        ),
        ("lock the door; pause the music", ["lock the door", "pause the music"]),
        ("lock the door. Pause the music.", ["lock the door", "Pause the music"]),
        ("add 7 and 1/2 minutes to my timer", ["add 7 and 1/2 minutes to my timer"]),
        ("a 12 minute and 30 second timer", ["a 12 minute and 30 second timer"]),
        ("start a timer of 2 and a half hours", ["start a timer of 2 and a half hours"]),
        ('play "you and me" and lock the door', ['play "you and me"', "lock the door"]),
        ("  ", [""]),
        ("and", ["and"]),
    ],
)
def test_parts(request_: str, parts: list[str]) -> None:
    assert parts_of(request_) == parts


LAST = {"intent": "HassLightSet", "name": "desk lamp", "area": "den", "brightness": 40}
ALL = {"intent": "HassTurnOff", "domain": "light"}


@pytest.mark.parametrize(
    ("request_", "last", "answer"),
    [
        ("the same in the attic", LAST, {**LAST, "area": "attic"}),
        ("do the same in the attic please", LAST, {**LAST, "area": "attic"}),
        ("and in the garage", LAST, {**LAST, "area": "garage"}),
        ("now the attic too", ALL, {**ALL, "area": "attic"}),
        ("what about the spotlight?", LAST, {**LAST, "name": "spotlight"}),
        ("the same upstairs", ALL, {**ALL, "floor": "upstairs"}),
        ("the same again", LAST, LAST),
        ("make it 60 percent", LAST, {**LAST, "brightness": 60}),
        ("turn off the radio", LAST, None),
        ("and turn off the radio", LAST, None),
        ("turn on the radio in the attic", LAST, None),
    ],
)
def test_what_leans_on_the_last_command(request_: str, last: dict[str, Any], answer: dict[str, Any] | None) -> None:
    assert from_memory(request_, Memory([last]), SMALL) == answer


@pytest.mark.parametrize(
    ("request_", "answers", "reason"),
    [
        ("the same in the attic", [], "nothing to repeat"),
        ("the same in the attic", [LAST, None], "nothing to repeat"),
        ("the same in the conservatory", [LAST], "what is 'the conservatory'"),
        ("make it 60", [{"intent": "HassTurnOn", "name": "radio"}], "no value to change"),
    ],
)
def test_what_cannot_be_repeated_is_refused(request_: str, answers: list[Any], reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        from_memory(request_, Memory(answers), SMALL)


def test_pronouns_stand_for_the_last_target() -> None:
    assert without_pronoun("turn it off", Memory([LAST])) == "turn the desk lamp in the den off"
    assert without_pronoun("turn them off", Memory([ALL])) == "turn the lights off"
    assert without_pronoun("how warm is it", Memory()) == "how warm is it"
    for memory in (Memory(), Memory([LAST, None]), Memory([{"intent": "HassMediaNext"}])):
        with pytest.raises(Refusal, match="what is meant by 'it'"):
            without_pronoun("turn it off", memory)
