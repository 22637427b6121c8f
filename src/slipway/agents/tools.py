"""What each tool does to a home. `call` is the only way in: it checks the arguments, then changes the state, or
refuses and changes nothing.

Tools that read append to `home.readings` what was asked about and what is so: an agent that looks at other devices has
another reading, though nothing in the home differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slipway.agents.home import Device, Home, Refusal
from slipway.agents.intents import INTENTS, problem_of
from slipway.agents.targets import Slots, devices_for, length_of, timer_for

STEP = 10  # percent that "louder" means
SHOWN = 6  # devices named in an answer
SWITCHED = ("light", "fan", "switch", "climate")
RUN_ONLY = ("scene", "script", "button")
TURNED = (*SWITCHED, *RUN_ONLY, "media_player", "cover", "lock", "valve", "lawn_mower")


def call(home: Home, name: str, slots: Slots) -> str:
    """Run a tool and say in a few words what it did, for the model and the trace. Raises Refusal with the reason;
    nothing was changed then."""
    if problem := problem_of({"intent": name, **slots}):
        raise Refusal(problem)
    readings = len(home.readings)
    answer = _TOOLS[name](home, slots)
    if INTENTS[name].reads:
        home.readings[readings:] = [{"tool": name, **answer}]
        return ", ".join(f"{key}: {_bounded(value)}" for key, value in answer.items())
    return ", ".join(answer[:SHOWN]) + (f" and {len(answer) - SHOWN} more" if len(answer) > SHOWN else "")


def _bounded(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
    return ", ".join(map(str, value[:SHOWN])) + more if value else "none"


def _turn_on(home: Home, slots: Slots) -> list[str]:
    return [_turned(home, device, True) for device in _turnable(home, slots, True)]


def _turn_off(home: Home, slots: Slots) -> list[str]:
    return [_turned(home, device, False) for device in _turnable(home, slots, False)]


def _turnable(home: Home, slots: Slots, on: bool) -> list[Device]:
    devices = devices_for(home, slots, TURNED)
    if not on and any(device.domain in RUN_ONLY for device in devices):
        raise Refusal(f"{devices[0].name} has no off")
    return devices


def _turned(home: Home, device: Device, on: bool) -> str:
    match device.domain:
        case "lock":
            home.set(device, locked=on)
        case "cover" | "valve":
            home.set(device, position=100 if on else 0)
        case "scene" | "script" | "button":
            home.set(device, runs=home.get(device, "runs") + 1)
        case "media_player":
            if on == (home.get(device, "state") == "off"):
                home.set(device, state="idle" if on else "off")
        case "lawn_mower":
            home.set(device, mowing=on)
        case _:
            home.set(device, on=on)
    return device.id


def _light(home: Home, slots: Slots) -> list[str]:
    devices = devices_for(home, slots, ("light",))
    values = {name: slots[name] for name in ("brightness", "color", "temperature") if name in slots}
    return _set_all(home, devices, on=True, **values)


def _set_all(home: Home, devices: list[Device], **values: Any) -> list[str]:
    for device in devices:
        home.set(device, **values)
    return [device.id for device in devices]


def _climate(home: Home, slots: Slots) -> list[str]:
    if not 5 <= (degrees := slots["temperature"]) <= 35:
        raise Refusal(f"{degrees} degrees are outside 5 to 35")
    return _set_all(home, devices_for(home, slots, ("climate",)), temperature=degrees)


def _fan_mode(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, devices_for(home, slots, ("climate",)), fan_mode=slots["fan_mode"])


def _fan_speed(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, devices_for(home, slots, ("fan",)), on=True, percentage=slots["percentage"])


def _position(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, devices_for(home, slots, ("cover", "valve")), position=slots["position"])


def _volume(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, devices_for(home, slots, ("media_player",)), volume=slots["volume_level"])


def _volume_step(home: Home, slots: Slots) -> list[str]:
    step = {"up": STEP, "down": -STEP}.get(slots["volume_step"], slots["volume_step"])
    devices = devices_for(home, slots, ("media_player",))
    for device in devices:
        home.set(device, volume=max(0, min(100, home.get(device, "volume") + step)))
    return [device.id for device in devices]


def _players(home: Home, slots: Slots, state: str) -> list[Device]:
    """The players that are meant and in `state`: a room's player that is off is not meant by "pause"."""
    devices = [d for d in devices_for(home, slots, ("media_player",)) if home.get(d, "state") == state]
    if not devices:
        raise Refusal(f"nothing is {state}")
    return devices


def _pause(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, _players(home, slots, "playing"), state="paused")


def _unpause(home: Home, slots: Slots) -> list[str]:
    return _set_all(home, _players(home, slots, "paused"), state="playing")


def _track(by: int) -> Callable[[Home, Slots], list[str]]:
    def skip(home: Home, slots: Slots) -> list[str]:
        devices = _players(home, slots, "playing")
        for device in devices:
            home.set(device, track=home.get(device, "track") + by)
        return [device.id for device in devices]

    return skip


def _play(home: Home, slots: Slots) -> list[str]:
    name = slots.get("name") or home.plan.player
    devices = devices_for(home, {**slots, "name": name}, ("media_player",))
    media = {"query": slots["search_query"], "class": slots.get("media_class")}
    return _set_all(home, devices, state="playing", track=1, playing=media)


def _start_timer(home: Home, slots: Slots) -> list[str]:
    if not (seconds := length_of(slots)):
        raise Refusal("a timer of no length")
    number = str(max((int(key) for key in home.state["timers"]), default=0) + 1)
    home.state["timers"][number] = {
        "name": slots.get("name"),
        "area": home.plan.here,
        "seconds": seconds,
        "remaining": seconds,
        "paused": False,
        "command": slots.get("conversation_command"),
    }
    return [f"timer {number}"]


def _cancel_timer(home: Home, slots: Slots) -> list[str]:
    number = timer_for(home, slots)
    del home.state["timers"][number]
    return [f"timer {number} cancelled"]


def _timer_time(sign: int) -> Callable[[Home, Slots], list[str]]:
    def change(home: Home, slots: Slots) -> list[str]:
        number = timer_for(home, slots)
        timer = home.state["timers"][number]
        timer["remaining"] = max(0, timer["remaining"] + sign * length_of(slots))  # at 0 it rings
        return [f"timer {number}: {timer['remaining']} s left"]

    return change


def _timer_paused(paused: bool) -> Callable[[Home, Slots], list[str]]:
    def change(home: Home, slots: Slots) -> list[str]:
        number = timer_for(home, slots)
        home.state["timers"][number]["paused"] = paused
        return [f"timer {number} {'paused' if paused else 'runs'}"]

    return change


def _timer_status(home: Home, slots: Slots) -> dict[str, Any]:
    number = timer_for(home, slots)
    timer = home.state["timers"][number]
    return {"timer": number, "remaining": timer["remaining"], "paused": timer["paused"]}


def _state(home: Home, slots: Slots) -> dict[str, Any]:
    devices, state = devices_for(home, slots), slots.get("state")
    asked = [device.id for device in devices]
    if state is None:
        return {"asked": asked, "states": [home.state["devices"][one] for one in asked]}
    return {"asked": asked, "state": state, "true_of": [one.id for one in devices if _is_in(home, one, state)]}


def _is_in(home: Home, device: Device, state: str) -> bool:
    """Whether a device is in the state of that word; a word that means nothing for it is refused."""
    values: Mapping[str, Any] = home.state["devices"][device.id]
    match device.domain:
        case "lock" if state in ("locked", "unlocked"):
            return bool(values["locked"] == (state == "locked"))
        case "cover" | "valve" if state in ("open", "closed", "opening", "closing"):
            moving = values.get("moving", "")
            return bool(moving == state if state.endswith("ing") else (values["position"] > 0) == (state == "open"))
        case "person" if state in home.plan.zones:
            return bool(values["zone"] == state)
        case "media_player" if state in ("on", "off", "playing", "paused", "idle"):
            named = state in ("on", "off")
            return bool((values["state"] != "off") == (state == "on") if named else values["state"] == state)
        case "light" | "fan" | "switch" | "climate" if state in ("on", "off"):
            return bool(values["on"] == (state == "on"))
    raise Refusal(f"{device.name or device.device_class} is never {state}")


def _temperature(home: Home, slots: Slots) -> dict[str, Any]:
    devices = devices_for(home, slots, ("climate",))
    return {"asked": [one.id for one in devices], "degrees": [home.get(one, "current_temperature") for one in devices]}


def _weather(home: Home, slots: Slots) -> dict[str, Any]:
    name = slots.get("name") or home.plan.places[0]
    device = devices_for(home, {"name": name}, ("weather",))[0]
    return {"asked": device.id, **home.state["devices"][device.id]}


_TOOLS: Mapping[str, Callable[[Home, Slots], Any]] = {
    "HassCancelTimer": _cancel_timer,
    "HassClimateGetTemperature": _temperature,
    "HassClimateSetFanMode": _fan_mode,
    "HassClimateSetTemperature": _climate,
    "HassDecreaseTimer": _timer_time(-1),
    "HassFanSetSpeed": _fan_speed,
    "HassGetState": _state,
    "HassGetWeather": _weather,
    "HassIncreaseTimer": _timer_time(1),
    "HassLightSet": _light,
    "HassMediaNext": _track(1),
    "HassMediaPause": _pause,
    "HassMediaPrevious": _track(-1),
    "HassMediaSearchAndPlay": _play,
    "HassMediaUnpause": _unpause,
    "HassPauseTimer": _timer_paused(True),
    "HassSetPosition": _position,
    "HassSetVolume": _volume,
    "HassSetVolumeRelative": _volume_step,
    "HassStartTimer": _start_timer,
    "HassTimerStatus": _timer_status,
    "HassTurnOff": _turn_off,
    "HassTurnOn": _turn_on,
    "HassUnpauseTimer": _timer_paused(False),
}
