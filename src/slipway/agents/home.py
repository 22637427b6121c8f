"""A simulated home: what stands where, and the state of each thing; a task starts it in a state drawn from a seed.

The state is one JSON value, `{"devices": {id: {attribute: value}}, "timers": {id: {...}}}`. Ids are `area/name`
(`kitchen/desk lamp`), of things outside the rooms `/name`, of covers without a name of their own `area/class`. Time
stands still.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.errors import ConfigError
from slipway.system.files import sha256_bytes

COLORS = ("white", "red", "green", "blue", "orange", "purple")
FAN_MODES = ("auto", "low", "medium", "high")
State = dict[str, dict[str, dict[str, Any]]]


class Refusal(Exception):  # noqa: N818 - it is an answer to a person, not an error of the program
    """Why a tool, or who calls it, does not do what was asked; nothing was changed."""


@dataclass(frozen=True)
class Device:
    """One thing. `area` is empty outside the rooms, `name` where it is known by its class only."""

    id: str
    name: str
    area: str
    domain: str
    device_class: str = ""


class HomePlan(BaseModel):
    """A home's description, as `home.yaml` has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    here: str = Field(min_length=1)
    floors: dict[str, list[str]] = Field(min_length=1)
    devices: dict[str, str | tuple[str, str]] = Field(min_length=1)
    covers: list[str] = Field(default_factory=list)
    player: str
    people: list[str] = Field(default_factory=list)
    zones: list[str] = Field(default_factory=list)
    mowers: list[str] = Field(default_factory=list)
    places: list[str] = Field(min_length=1)
    words: list[str] = Field(default_factory=list)

    @cached_property
    def areas(self) -> tuple[str, ...]:
        """Every room, floor by floor."""
        return tuple(area for areas in self.floors.values() for area in areas)

    @cached_property
    def things(self) -> dict[str, Device]:
        """Every device by its id, room by room, in the plan's order."""
        return devices_of(self)

    @property
    def digest(self) -> str:
        """What decides the home, in one word."""
        return sha256_bytes(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())


def read_plan(file: Path | None = None) -> HomePlan:
    """The home in a YAML file; null: the one that comes with Slipway. Raises ConfigError for what is none."""
    source = str(file or "home.yaml")
    try:
        text = (file or files("slipway.agents") / "home.yaml").read_text(encoding="utf-8")
        plan = HomePlan.model_validate(yaml.safe_load(text))
    except OSError as err:
        raise ConfigError("agent.home", f"{source}: {err.strerror}", "a readable file", "correct the path") from err
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as err:
        raise _no_home(source, _first_problem(err)) from err
    if plan.here not in plan.areas:
        raise _no_home(source, f"here: {plan.here}, which is on no floor")
    if len(set(plan.areas)) < len(plan.areas):
        raise _no_home(source, "a room that is on two floors")
    if _domain(plan.devices.get(plan.player, ""))[0] != "media_player":
        raise _no_home(source, f"player: {plan.player}, which is no media_player of `devices`")
    return plan


def _no_home(source: str, problem: str) -> ConfigError:
    return ConfigError("agent.home", f"{source}: {problem}"[:400], "a home as in home.yaml", "correct the file")


def _first_problem(err: Exception) -> str:
    if isinstance(err, ValidationError):
        first = err.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(err).splitlines()[0]


def _domain(value: str | Sequence[str]) -> tuple[str, str]:
    return (value, "") if isinstance(value, str) else (value[0], value[1])


def devices_of(plan: HomePlan) -> dict[str, Device]:
    """Every device by its id, room by room, in the plan's order."""
    devices = []
    for area in plan.areas:
        devices += [Device(f"{area}/{name}", name, area, *_domain(what)) for name, what in plan.devices.items()]
        devices += [Device(f"{area}/{kind}", "", area, "cover", kind) for kind in plan.covers]
    for domain, names in (("person", plan.people), ("lawn_mower", plan.mowers), ("weather", plan.places)):
        devices += [Device(f"/{name}", name, "", domain) for name in names]
    return {device.id: device for device in devices}


@dataclass
class Home:
    """A home in a state. Tools change `state` and append to `readings` what they answered, in order."""

    plan: HomePlan
    devices: Mapping[str, Device]
    state: State
    readings: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> Home:
        """Another home in the same state, without readings."""
        return Home(self.plan, self.devices, copied(self.state))

    def set(self, device: Device, **values: Any) -> None:
        """Change attributes of a device."""
        self.state["devices"][device.id].update(values)

    def get(self, device: Device, attribute: str) -> Any:
        """An attribute of a device."""
        return self.state["devices"][device.id][attribute]


def copied(state: State) -> State:
    """The same state as another value: tools replace attributes and never change one in place."""
    return {part: {key: dict(values) for key, values in things.items()} for part, things in state.items()}


def new_home(plan: HomePlan, seed: int, timers: Sequence[Mapping[str, Any]] = ()) -> Home:
    """A home whose devices are in states drawn from `seed`, with these timers (`name`, `area`, `seconds` it was started
    with, `remaining`, `paused`)."""
    rng, devices = random.Random(seed), plan.things  # noqa: S311 (variety, not secrecy)
    states = {device.id: _drawn(device, plan, rng) for device in devices.values()}
    return Home(plan, devices, {"devices": states, "timers": {str(i + 1): dict(t) for i, t in enumerate(timers)}})


def _drawn(device: Device, plan: HomePlan, rng: random.Random) -> dict[str, Any]:
    """A state of a device. Only `random()` is used: its stream is pinned by Python."""

    def pick(options: Sequence[Any]) -> Any:
        return options[int(rng.random() * len(options))]

    on, share = rng.random() < 0.5, pick(range(1, 100))
    states: dict[str, dict[str, Any]] = {
        "light": {"on": on, "brightness": share, "color": pick(COLORS), "temperature": pick(range(2010, 6490, 100))},
        "fan": {"on": on, "percentage": share},
        "media_player": {"state": pick(("off", "playing", "paused")), "volume": share, "track": 5, "playing": None},
        "climate": {
            "on": on,
            "temperature": pick(range(10, 15)),
            "fan_mode": pick(FAN_MODES),
            "current_temperature": pick(range(16, 26)),
        },
        "cover": {"position": pick((0, share, 100)), "moving": pick(("", "", "opening", "closing"))},
        "lock": {"locked": on},
        "valve": {"position": pick((0, 100))},
        "scene": {"runs": 0},
        "script": {"runs": 0},
        "button": {"runs": 0},
        "person": {"zone": pick(plan.zones or ["home"])},
        "weather": {"weather": pick(("sunny", "rainy", "cloudy", "snowy")), "temperature": pick(range(-5, 30))},
        "lawn_mower": {"mowing": on},
    }
    return states.get(device.domain, {"on": on})


def changes(before: State, after: State) -> dict[str, Any]:
    """What differs, by `devices.ID.ATTRIBUTE` or `timers.ID`: the new value, null for a timer that is gone."""
    differing: dict[str, Any] = {}
    for device, values in after["devices"].items():
        for name, value in values.items():
            if before["devices"].get(device, {}).get(name) != value:
                differing[f"devices.{device}.{name}"] = value
    for timer in sorted({*before["timers"], *after["timers"]}):
        if before["timers"].get(timer) != after["timers"].get(timer):
            differing[f"timers.{timer}"] = after["timers"].get(timer)
    return differing
