"""What slots mean in a home."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.agents.home import Refusal
from slipway.agents.targets import areas_for, devices_for, length_of, timer_for
from tests.support.commands import small_home, timer


@pytest.mark.parametrize(
    ("slots", "devices"),
    [
        ({"name": "desk lamp"}, ["den/desk lamp"]),
        ({"name": "desk lamp", "area": "attic"}, ["attic/desk lamp"]),
        ({"name": "desk lamp", "floor": "ground"}, ["den/desk lamp", "garage/desk lamp"]),
        ({"name": "alice"}, ["/alice"]),
        ({"domain": "fan"}, ["attic/tower fan", "den/tower fan", "garage/tower fan"]),
        ({"domain": "light", "area": "garage"}, ["garage/desk lamp", "garage/spotlight"]),
        ({"domain": "cover", "device_class": "blind", "floor": "upstairs"}, ["attic/blind"]),
    ],
)
def test_devices(slots: dict[str, Any], devices: list[str]) -> None:
    assert [one.id for one in devices_for(small_home(), slots)] == devices


def test_what_names_nothing_means_the_room_of_the_speaker() -> None:
    assert [one.id for one in devices_for(small_home(), {}, ("media_player",))] == ["den/radio"]


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"area": "cellar"}, "no room 'cellar' here; rooms: attic, den, garage"),
        ({"floor": "top", "domain": "light"}, "no floor 'top'"),
        ({"area": "attic", "floor": "ground", "domain": "light"}, "attic is not on the floor ground"),
        ({"name": "jukebox"}, "no device 'jukebox'"),
        ({"name": "radio", "area": "den"}, "radio is a media_player: it cannot"),
        ({"name": "alice", "area": "den"}, "no such device in den"),
        ({"domain": "switch"}, "no such device here"),
    ],
)
def test_what_is_unknown_is_refused(slots: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        devices_for(small_home(), slots, ("light",))


def test_lengths() -> None:
    assert length_of({"hours": 1, "minutes": 2, "seconds": 3}) == 3723
    assert length_of({"start_minutes": 5, "minutes": 1}, "start_") == 300
    assert length_of({}) == 0


def test_a_timer_by_name_room_or_start() -> None:
    home = small_home(timer(300, name="tea"), timer(60, area="attic"))
    assert timer_for(home, {"name": "tea"}) == "1"
    assert timer_for(home, {"area": "attic"}) == "2"
    assert timer_for(home, {"start_minutes": 5}) == "1"
    with pytest.raises(Refusal, match="2 timers are meant"):
        timer_for(home, {})
    with pytest.raises(Refusal, match="no such timer"):
        timer_for(home, {"start_seconds": 5})
    with pytest.raises(Refusal, match="no room 'cellar'"):
        timer_for(home, {"area": "cellar"})
    assert areas_for(home, {}) is None
