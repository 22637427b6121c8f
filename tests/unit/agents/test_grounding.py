"""The check of words between a request and an answer."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.agents.grounding import command_words, places_of, tokens, ungrounded
from tests.support.commands import SMALL


@pytest.mark.parametrize(
    ("request_", "answer", "problem"),
    [
        ("turn off the desk lamp in the attic", {"intent": "HassTurnOff", "name": "desk lamp", "area": "attic"}, ""),
        ("dim the desk lamps to 40%", {"intent": "HassLightSet", "name": "desk lamp", "brightness": 40}, ""),
        ("set den to blue", {"intent": "HassLightSet", "domain": "light", "area": "den", "color": "blue"}, ""),
        ("brightness in the den to the max",
         {"intent": "HassLightSet", "domain": "light", "area": "den", "brightness": 100}, ""),
        ("add 7 and 1/2 minutes to my timer", {"intent": "HassIncreaseTimer", "minutes": 7, "seconds": 30}, ""),
        ("play side of the moon", {"intent": "HassMediaSearchAndPlay", "search_query": "side of the moon"}, ""),
        ("is alice at work", {"intent": "HassGetState", "domain": "person", "state": "work"}, "what is 'alice'"),
        ("are people at work", {"intent": "HassGetState", "domain": "person", "state": "work"}, ""),
        ("are any garage doors locked in the den",
         {"intent": "HassGetState", "domain": "lock", "area": "den", "state": "locked"}, ""),
        # what a model makes of things it does not know
        ("turn off the lights in the conservatory", {"intent": "HassTurnOff", "domain": "light"},
         "what is 'conservatory'"),
        ("turn off the lights in the conservatory", {"intent": "HassTurnOff", "domain": "light", "area": "den"},
         "nothing of area 'den'"),
        ("turn off the lights in the den", {"intent": "HassTurnOff", "domain": "light"}, "what is 'den'"),
        ("turn off the light in the garage", {"intent": "HassTurnOff", "domain": "light"}, "names garage"),
        ("turn on the jukebox", {"intent": "HassTurnOn", "name": "radio"}, "nothing of name 'radio'"),
        ("turn it off", {"intent": "HassTurnOff", "domain": "cover"}, "nothing of domain 'cover'"),
        ("close the blind", {"intent": "HassTurnOff", "domain": "cover", "device_class": "gate"}, "class 'gate'"),
        ("desk lamp to 40", {"intent": "HassLightSet", "name": "desk lamp", "color": "blue"}, "of color 'blue'"),
        ("volume to 40", {"intent": "HassSetVolume", "volume_level": 45}, "lacks the number 40"),
        ("turn the volume up", {"intent": "HassSetVolume", "volume_level": 45}, "no number 45"),
        ("tell me a joke", {"intent": "HassGetWeather"}, "what is 'joke'"),
    ],
)  # fmt: skip
def test_what_is_not_asked_or_left_out(request_: str, answer: dict[str, Any], problem: str) -> None:
    shown = ungrounded(request_, answer, SMALL)
    assert problem in shown and bool(problem) == bool(shown)


def test_places_of_a_phrase() -> None:
    words = tokens("The desk-lamps, the Desk lamp's and a lamp desk\u2019s")
    assert [list(place) for place in places_of("desk lamp", words)] == [[1, 2], [4, 5]]
    assert places_of("", words) == []


def test_the_command_language_has_no_names() -> None:
    assert len(command_words()) > 200
    assert command_words().isdisjoint({"kitchen", "thermostat", "conservatory", "jukebox", "alice", "pizza"})
