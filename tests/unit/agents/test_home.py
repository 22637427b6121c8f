"""The simulated home: what stands where, states of a seed, what differs between two states."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slipway.agents.home import changes, copied, devices_of, new_home, read_plan
from slipway.errors import ConfigError
from tests.support.commands import SMALL, small_home, timer

ROOT = Path(__file__).resolve().parents[3]


def test_the_shipped_home_has_what_the_corpus_speaks_of() -> None:
    corpus = yaml.safe_load((ROOT / "scripts/home.yaml").read_text())
    plan = read_plan()
    outside = dict.fromkeys(plan.people, "person") | dict.fromkeys(plan.mowers, "lawn_mower")
    outside |= dict.fromkeys(plan.places, "weather")
    domains = {name: what if isinstance(what, str) else what[0] for name, what in plan.devices.items()}
    assert sorted(plan.areas) == sorted(corpus["areas"])
    assert sorted(plan.floors) == sorted(corpus["floors"])
    assert domains | outside == corpus["names"]
    assert plan.zones == corpus["zones"]


def test_every_room_has_each_device_and_what_is_outside_stands_once() -> None:
    devices = devices_of(SMALL)
    assert len(devices) == 3 * (7 + 1) + 2
    assert devices["attic/desk lamp"].domain == "light"
    assert (devices["attic/blind"].name, devices["attic/blind"].device_class) == ("", "blind")
    assert devices["/oslo"].area == ""


def test_a_seed_makes_one_state_and_another_seed_another() -> None:
    assert small_home(seed=3).state == small_home(seed=3).state
    assert small_home(seed=3).state["devices"] != small_home(seed=4).state["devices"]


def test_changes_name_attributes_and_timers() -> None:
    home = small_home(timer(60), timer(90), seed=1)
    before = copied(home.state)
    home.state["devices"]["den/desk lamp"]["brightness"] = 0
    del home.state["timers"]["1"]
    home.state["timers"]["2"]["paused"] = True
    assert changes(before, home.state) == {
        "devices.den/desk lamp.brightness": 0,
        "timers.1": None,
        "timers.2": {**timer(90), "paused": True},
    }
    assert changes(before, before) == {}


def test_a_copy_is_another_home() -> None:
    home = small_home(timer(60))
    other = home.copy()
    other.state["timers"]["1"]["paused"] = True
    other.set(other.devices["den/radio"], volume=1)
    assert home.state == small_home(timer(60)).state


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("here: [", "a flow node"),
        ("here: den\n", "floors: Field required"),
        ("here: x\nfloors: {a: [b]}\ndevices: {r: media_player}\nplayer: r\nplaces: [p]", "on no floor"),
        ("here: b\nfloors: {a: [b], c: [b]}\ndevices: {r: media_player}\nplayer: r\nplaces: [p]", "on two floors"),
        ("here: b\nfloors: {a: [b]}\ndevices: {r: light}\nplayer: r\nplaces: [p]", "no media_player"),
    ],
)
def test_a_file_that_is_no_home_is_named_with_its_problem(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "h.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_plan(tmp_path / "h.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        read_plan(tmp_path / "none.yaml")


def test_another_home_has_another_digest() -> None:
    assert read_plan().digest != SMALL.digest
    assert new_home(SMALL, 0).plan.digest == SMALL.digest
