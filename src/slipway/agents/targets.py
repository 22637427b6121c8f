"""What slots mean in a home: rooms, floors, devices by name, all of a kind, timers. An unknown one is refused.

A name without a place is the device of that name in the room of the speaker (`here`), else the only one; a kind without
a place is meant in the whole home; neither name, kind nor place: the room of the speaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.agents.home import Device, Home, Refusal

Slots = Mapping[str, Any]
SECONDS = {"hours": 3600, "minutes": 60, "seconds": 1}


def devices_for(home: Home, slots: Slots, domains: Sequence[str] = ()) -> list[Device]:
    """The devices that slots name. `domains`: what the tool can work on, empty for any.

    Raises Refusal for an unknown room, floor or name, for a device that is not there, and for one of another kind.
    """
    areas = areas_for(home, slots)
    of_kind = _of_kind(home, slots, areas)
    usable = [device for device in of_kind if not domains or device.domain in domains]
    if of_kind and not usable:
        raise Refusal(f"{of_kind[0].name or of_kind[0].device_class} is a {of_kind[0].domain}: it cannot do this")
    if not usable:
        raise Refusal(f"there is no such device {_place(slots)}")
    return usable


def areas_for(home: Home, slots: Slots) -> list[str] | None:
    """Rooms that the slots limit the tool to; None for none. Raises Refusal for a room or a floor that does not exist,
    and for a room that is not on that floor."""
    area, floor = slots.get("area"), slots.get("floor")
    if area is not None and area not in home.plan.areas:
        raise Refusal(f"there is no room {area!r} here; rooms: {', '.join(home.plan.areas)}")
    if floor is not None and floor not in home.plan.floors:
        raise Refusal(f"there is no floor {floor!r} here; floors: {', '.join(home.plan.floors)}")
    if area is not None and floor is not None and area not in home.plan.floors[floor]:
        raise Refusal(f"{area} is not on the floor {floor}")
    if area is not None:
        return [area]
    return list(home.plan.floors[floor]) if floor is not None else None


def _of_kind(home: Home, slots: Slots, areas: list[str] | None) -> list[Device]:
    name, domain, kind = slots.get("name"), slots.get("domain"), slots.get("device_class")
    devices = [device for device in home.devices.values() if domain in (None, device.domain)]
    devices = [device for device in devices if kind in (None, device.device_class)]
    if name is not None:
        devices = [device for device in devices if device.name == name]
        if not devices:
            raise Refusal(f"there is no device {name!r} here")
        if areas is None and len(devices) > 1:
            areas = [home.plan.here]
    elif areas is None and domain is None and kind is None:
        areas = [home.plan.here]
    return devices if areas is None else [device for device in devices if device.area in areas]


def _place(slots: Slots) -> str:
    place = slots.get("area") or slots.get("floor")
    return f"in {place}" if place else "here"


def length_of(slots: Slots, prefix: str = "") -> int:
    """Seconds that `hours`, `minutes` and `seconds` add up to, or `start_hours` and so on with `prefix`."""
    return sum(slots.get(prefix + unit, 0) * seconds for unit, seconds in SECONDS.items())


def timer_for(home: Home, slots: Slots) -> str:
    """The number of the timer that slots name by its name, its room, or what it was started with. Raises Refusal for
    none, and where several are meant."""
    areas_for(home, {"area": slots.get("area")})
    started = length_of(slots, "start_")
    numbers = [
        number
        for number, timer in home.state["timers"].items()
        if slots.get("name") in (None, timer["name"])
        and slots.get("area") in (None, timer["area"])
        and (not started or timer["seconds"] == started)
    ]
    if len(numbers) != 1:
        raise Refusal("there is no such timer" if not numbers else f"{len(numbers)} timers are meant: say which one")
    return numbers[0]
