"""Each tool by the state it leaves, worked out by hand, and what it refuses without a change."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.agents.home import Home, Refusal, changes
from slipway.agents.intents import INTENTS
from slipway.agents.tools import call
from tests.support.commands import small_home, timer


def home_with(*timers: dict[str, Any], **states: dict[str, Any]) -> Home:
    """A home whose den devices have these states; `desk_lamp` stands for den/desk lamp."""
    home = small_home(*timers)
    for name, values in states.items():
        home.state["devices"][f"den/{name.replace('_', ' ')}"].update(values)
    return home


def done(home: Home, intent: str, **slots: Any) -> dict[str, Any]:
    before = home.copy().state
    call(home, intent, slots)
    return changes(before, home.state)


PLAYING = {"state": "playing", "volume": 50, "track": 5}
LAMP = {"on": False, "brightness": 10, "color": "red", "temperature": 3000}


@pytest.mark.parametrize(
    ("intent", "slots", "changed"),
    [
        ("HassTurnOn", {"name": "desk lamp"}, {"desk lamp.on": True}),
        ("HassTurnOn", {"name": "front door"}, {"front door.locked": True}),
        ("HassTurnOn", {"name": "movie night"}, {"movie night.runs": 1}),
        ("HassTurnOff", {"name": "radio"}, {"radio.state": "off"}),
        ("HassTurnOff", {"device_class": "blind", "domain": "cover", "area": "den"}, {"blind.position": 0}),
        ("HassLightSet", {"name": "desk lamp", "brightness": 40}, {"desk lamp.on": True, "desk lamp.brightness": 40}),
        ("HassLightSet", {"name": "desk lamp", "color": "blue"}, {"desk lamp.on": True, "desk lamp.color": "blue"}),
        ("HassClimateSetTemperature", {"temperature": 21}, {"heater.temperature": 21}),
        ("HassClimateSetFanMode", {"fan_mode": "focus", "area": "den"}, {"heater.fan_mode": "focus"}),
        ("HassFanSetSpeed", {"percentage": 5}, {"tower fan.on": True, "tower fan.percentage": 5}),
        ("HassSetPosition", {"device_class": "blind", "domain": "cover", "area": "den", "position": 3},
         {"blind.position": 3}),
        ("HassSetVolume", {"volume_level": 1}, {"radio.volume": 1}),
        ("HassSetVolumeRelative", {"volume_step": "up"}, {"radio.volume": 60}),
        ("HassSetVolumeRelative", {"volume_step": -70}, {"radio.volume": 0}),
        ("HassMediaNext", {}, {"radio.track": 6}),
        ("HassMediaPrevious", {"name": "radio"}, {"radio.track": 4}),
        ("HassMediaPause", {}, {"radio.state": "paused"}),
        ("HassMediaSearchAndPlay", {"search_query": "queen", "media_class": "artist"},
         {"radio.track": 1, "radio.playing": {"query": "queen", "class": "artist"}}),
    ],
)  # fmt: skip
def test_what_a_tool_changes_and_nothing_else(intent: str, slots: dict[str, Any], changed: dict[str, Any]) -> None:
    home = home_with(
        desk_lamp=LAMP, radio=PLAYING, tower_fan={"on": False, "percentage": 50}, blind={"position": 50},
        front_door={"locked": False}, heater={"fan_mode": "low"},
    )  # fmt: skip
    assert done(home, intent, **slots) == {f"devices.den/{name}": value for name, value in changed.items()}
    assert home.readings == []


def test_media_that_pauses_is_resumed() -> None:
    assert done(home_with(radio={"state": "paused"}), "HassMediaUnpause") == {"devices.den/radio.state": "playing"}


def test_timers() -> None:
    started = done(small_home(), "HassStartTimer", minutes=2, seconds=5, name="tea")
    assert started == {"timers.1": {**timer(125, name="tea")}}
    assert done(small_home(timer(60)), "HassCancelTimer") == {"timers.1": None}
    assert done(small_home(timer(60)), "HassPauseTimer")["timers.1"]["paused"] is True
    assert done(small_home(timer(60, paused=True)), "HassUnpauseTimer")["timers.1"]["paused"] is False
    assert done(small_home(timer(60)), "HassIncreaseTimer", hours=1)["timers.1"]["remaining"] == 3660
    assert done(small_home(timer(60)), "HassDecreaseTimer", seconds=20)["timers.1"]["remaining"] == 40
    assert done(small_home(timer(60)), "HassDecreaseTimer", minutes=2)["timers.1"]["remaining"] == 0


def test_readings_say_what_was_asked_about() -> None:
    home = home_with(timer(60), desk_lamp={"on": True}, spotlight={"on": False}, heater={"current_temperature": 19})
    home.state["devices"]["/alice"]["zone"] = "work"
    home.state["devices"]["/oslo"] = {"weather": "rainy", "temperature": 3}
    assert done(home, "HassGetState", domain="light", area="den", state="on") == {}
    call(home, "HassGetState", {"domain": "person", "state": "home"})
    call(home, "HassGetState", {"name": "front door", "state": "locked"})
    call(home, "HassClimateGetTemperature", {})
    call(home, "HassGetWeather", {})
    call(home, "HassTimerStatus", {})
    lights, people, door, temperature, weather, left = home.readings
    assert lights["asked"] == ["den/desk lamp", "den/spotlight"]
    assert lights["true_of"] == ["den/desk lamp"]
    assert people == {"tool": "HassGetState", "asked": ["/alice"], "state": "home", "true_of": []}
    assert door["asked"] == ["den/front door"]
    assert (temperature["asked"], temperature["degrees"]) == (["den/heater"], [19])
    assert weather == {"tool": "HassGetWeather", "asked": "/oslo", "weather": "rainy", "temperature": 3}
    assert left == {"tool": "HassTimerStatus", "timer": "1", "remaining": 60, "paused": False}


@pytest.mark.parametrize(
    ("intent", "slots", "reason"),
    [
        ("HassTurnOff", {"name": "movie night"}, "movie night has no off"),
        ("HassTurnOn", {"name": "alice"}, "alice is a person"),
        ("HassLightSet", {"name": "radio", "brightness": 5}, "radio is a media_player"),
        ("HassClimateSetTemperature", {"temperature": 90}, "outside 5 to 35"),
        ("HassMediaPause", {"area": "attic"}, "nothing is playing"),
        ("HassStartTimer", {"minutes": 0}, "no length"),
        ("HassGetState", {"name": "desk lamp", "state": "locked"}, "desk lamp is never locked"),
        ("HassTurnOn", {"area": "den"}, "needs one of"),
        ("HassTurnOn", {"name": "desk lamp", "area": "cellar"}, "no room 'cellar'"),
        ("HassDance", {}, "no tool"),
        ("HassCancelTimer", {}, "no such timer"),
    ],
)
def test_a_refusal_changes_nothing(intent: str, slots: dict[str, Any], reason: str) -> None:
    home = small_home()
    for device, values in home.state["devices"].items():
        values.update({"state": "off"} if device.endswith("radio") else {})
    before = home.copy().state
    with pytest.raises(Refusal, match=reason):
        call(home, intent, slots)
    assert (home.state, home.readings) == (before, [])


def test_every_intent_has_a_tool_and_readers_change_nothing() -> None:
    slots = {"HassGetState": {"name": "desk lamp"}, "HassClimateGetTemperature": {}, "HassGetWeather": {}}
    for name in (name for name, intent in INTENTS.items() if intent.reads):
        home = small_home(timer(60))
        assert done(home, name, **slots.get(name, {})) == {}
        assert len(home.readings) == 1
    with pytest.raises(Refusal):
        call(small_home(), "HassTimerStatus", {})


def test_a_long_answer_names_a_few_devices() -> None:
    assert call(small_home(), "HassTurnOn", {"domain": "light"}).endswith("garage/spotlight")
    assert small_home().devices.keys() >= {"attic/desk lamp"}
