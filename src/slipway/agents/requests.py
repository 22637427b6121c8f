"""A request before it is asked: split into single commands, and completed from memory where it leans on the last one.

The embedded model answers one command at a time and merges two into a wrong third (facts measured in docs/agents.md),
so the splitting is ours. What is split: at `then` and `;` always, at `and` and commas where what follows is no number,
unit or name that goes on with what stands before. Text in quotes is never split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.agents.grounding import places_of, tokens
from slipway.agents.home import HomePlan, Refusal

_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d")
_HARD = re.compile(r"\s*(?:[;.]\s+|,?\s*\band then\b|,?\s*\bthen\b|,\s*\band\b)\s*", re.IGNORECASE)
_SOFT = re.compile(r"\s*(?:,|\band\b)\s*", re.IGNORECASE)
_GOES_ON = re.compile(r"(?:a |an |half|\d|one |\d+/\d+)", re.IGNORECASE)  # 7 and 1/2, 2 and a half
_SAME = re.compile(
    r"^(?:and |now |also |then |please )*(?:do )?(?:the )?same(?: thing)?(?: again)?"
    r"(?: (?:in|on|at|for|to|with|upstairs|downstairs)\b(?P<rest>.*))?$"
)
_TOO = re.compile(r"^(?:and |also |now |what about |how about )+(?:in |on |at |for )?(?P<rest>.+)$")
_VALUE = re.compile(
    r"^(?:and |now |please )*(?:make it|set it to|no,?|rather) (?:to )?(?P<value>\d+)\s*(?:percent|%)?$"
)
_PRONOUN = re.compile(r"(?<!\bis )\b(it|them)\b", re.IGNORECASE)
_FILLER = {"the", "my", "our", "too", "as", "well", "also", "please", "in", "on", "at", "all", "of"}
VALUES = ("brightness", "percentage", "position", "temperature", "volume_level")


@dataclass
class Memory:
    """What a conversation remembers: the answers that were carried out, newest last; None for a command that was not:
    after one, there is nothing to repeat, or an older command would be repeated in its place."""

    answers: list[dict[str, Any] | None] = field(default_factory=list)

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The answer to the last command; None where it was not carried out."""
        return self.answers[-1] if self.answers else None


def parts_of(request: str) -> list[str]:
    """The single commands of a request, in order; the request itself where nothing splits it."""
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    hidden = _QUOTED.sub(hide, request.strip())
    pieces = [part for hard in _HARD.split(hidden) for part in _soft(hard)]
    shown = [re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], piece).strip(" ,;.") for piece in pieces]
    return [piece for piece in shown if piece] or [request.strip()]


def _soft(text: str) -> list[str]:
    """Split at `and` and commas, but within an amount: `7 and 1/2 minutes`, `12 minutes and 30 seconds`."""
    parts, start = [], 0
    for match in _SOFT.finditer(text):
        before, after = text[start : match.start()], text[match.end() :]
        if len(tokens(before)) < 2 or len(tokens(after)) < 1 or _GOES_ON.match(after):
            continue
        parts.append(before)
        start = match.end()
    return [*parts, text[start:]]


def from_memory(request: str, memory: Memory, plan: HomePlan) -> dict[str, Any] | None:
    """The answer to a request that only changes the place, the device or the value of the last one ("the same in the
    kitchen", "and the desk lamp", "make it 40"); None for a request that stands by itself. Raises Refusal where there
    is nothing to repeat, and for a place or device that this home does not have."""
    text = " ".join(request.lower().strip(" .!?").split())
    if match := _VALUE.match(text):
        return _with_value(memory, int(match["value"]))
    same = _SAME.match(text)
    other = same or _TOO.match(text)
    if other is None:
        return None
    rest = _after_same(text, other)
    slots = _place_slots(rest, plan)
    if not same and slots is None:
        return None
    if memory.last is None:
        raise Refusal("there is nothing to repeat yet")
    if slots is None:
        raise Refusal(f"what is {rest.strip()[:60]!r}? It is no place and no device of this home")
    if not slots:
        return dict(memory.last)
    if "name" not in slots:  # another place: the same devices there
        return {**{k: v for k, v in memory.last.items() if k not in ("area", "floor")}, **slots}
    return {**{k: v for k, v in memory.last.items() if k not in ("name", "domain", "device_class")}, **slots}


def _after_same(text: str, match: re.Match[str]) -> str:
    for floor in (" upstairs", " downstairs"):
        if text.endswith(floor):
            return floor
    return match["rest"] or ""


def _place_slots(rest: str, plan: HomePlan) -> dict[str, Any] | None:
    """`area`, `floor` and `name` that a few words consist of; empty for no words, None where others stand among
    them."""
    words = tokens(rest)
    slots: dict[str, Any] = {}
    covered = set[int]()
    for slot, phrases in (("area", plan.areas), ("floor", plan.floors), ("name", plan.devices)):
        for phrase in phrases:
            for place in places_of(phrase, words):
                if slot not in slots and covered.isdisjoint(place):
                    slots[slot] = phrase
                    covered.update(place)
    left = [word for i, word in enumerate(words) if i not in covered and word not in {*_FILLER, "floor"}]
    return None if left or (words and not slots) else slots


def _with_value(memory: Memory, value: int) -> dict[str, Any]:
    last = memory.last or {}
    slot = next((slot for slot in VALUES if slot in last), None)
    if slot is None:
        raise Refusal("there is no value to change yet")
    return {**last, slot: value}


def without_pronoun(request: str, memory: Memory) -> str:
    """The request with `it` or `them` replaced by what the last command was about; as it is without one. A
    target of a kind alone ("the lights in the den") is named by its kind and place. Raises Refusal where nothing can be
    meant."""
    if not (match := _PRONOUN.search(request)):
        return request
    last = memory.last or {}
    thing = last.get("name") or {"light": "lights", "fan": "fans"}.get(str(last.get("domain")))
    if thing is None:
        raise Refusal(f"what is meant by {match[0]!r}?")
    place = last.get("area") or last.get("floor")
    target = f"the {thing} in the {place}" if place else f"the {thing}"
    return _PRONOUN.sub(target, request, count=1)
