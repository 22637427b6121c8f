"""Whether an answer says what was asked: no name or number that the request lacks, none of the request left out.

A model that has never heard of the conservatory turns off all lights, or those of a room that it knows. What stands in
the way is this check of words, which knows no model: a tool is called only when every name, room and number of its
arguments is in the request, and every word of the request is one of the command language (`words.txt`), a number, or
part of an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from slipway.agents.home import HomePlan

TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+")
COPIED = ("area", "color", "conversation_command", "floor", "name", "search_query")  # as the request has them
WORDED = ("brightness", "temperature", "seconds", "minutes")  # may be words: the max, candle light, half a minute
KINDS = {  # words by which a request means a kind of device; any that begins so
    "cover": ("cover", "awning", "blind", "curtain", "door", "garage", "gate", "shade", "shutter", "window"),
    "fan": ("fan",),
    "light": ("light", "lamp", "bright", "color", "illuminat"),
    "lock": ("lock", "unlock", "door", "gate", "secure"),
    "person": ("person", "people", "anyone", "anybody", "everyone", "everybody", "who", "some"),
    "switch": ("switch",),
}
FRACTION = ("1", "2")  # of "1/2": half of the unit beside it, in another slot


def tokens(text: str) -> list[str]:
    """Words in small letters and numbers, in order."""
    return TOKEN.findall(text.lower().replace("\u2019", "'"))


@cache
def command_words() -> frozenset[str]:
    """The words of the command language, written by `scripts.agent_words`."""
    return frozenset((files("slipway.agents") / "words.txt").read_text(encoding="utf-8").split())


def places_of(phrase: str, words: Sequence[str]) -> list[range]:
    """Where a phrase stands in the words; its last word may have a plural s."""
    parts = tokens(phrase)
    starts = range(len(words) - len(parts) + 1) if parts else range(0)
    return [range(i, i + len(parts)) for i in starts if _same(parts, words[i : i + len(parts)])]


def _same(parts: Sequence[str], words: Sequence[str]) -> bool:
    *most, last = parts
    return list(words[:-1]) == most and words[-1] in (last, f"{last}s", f"{last}'s")


def ungrounded(request: str, answer: Mapping[str, Any], plan: HomePlan) -> str:
    """What is wrong between a request and an answer (`{"intent": ..., slot: value}`), in a sentence; empty for
    nothing."""
    words = tokens(request)
    slots = {k: v for k, v in answer.items() if k != "intent"}
    problems = list(_problems(words, slots, plan))
    if answer.get("intent") != "HassLightSet":  # whose tool knows no other kind: "set kitchen orange"
        problems += _kinds(words, slots)
    return next(iter(problems), "")


def _problems(words: Sequence[str], slots: Mapping[str, Any], plan: HomePlan) -> Iterator[str]:
    covered = set[int]()
    for slot in COPIED:
        if slot in slots:
            places = places_of(str(slots[slot]), words)
            if not places:
                yield f"the request says nothing of {slot} {str(slots[slot])[:60]!r}"
            covered.update(index for place in places for index in place)
    if slots.get("state") in plan.zones:
        covered.update(index for place in places_of(slots["state"], words) for index in place)
    yield from _numbers(words, slots, covered)
    left = [word for i, word in enumerate(words) if i not in covered and not word.isdigit()]
    known = command_words() | set(plan.words)
    if unknown := [word for word in left if word not in known and _stem(word) not in known]:
        yield f"what is {unknown[0][:60]!r}? It is no command and nothing of this home"
    for phrase in _names(plan):
        for place in places_of(phrase, words):
            if covered.isdisjoint(place) and phrase not in slots.values() and not _is_kind(words, place, slots):
                yield f"the request names {phrase}, the answer does not"


def _kinds(words: Sequence[str], slots: Mapping[str, Any]) -> Iterator[str]:
    kind = slots.get("device_class")
    if kind and not any(word.startswith(kind) for word in words):
        yield f"the request says nothing of device_class {kind!r}"
    if "domain" in slots and not any(word.startswith(KINDS.get(slots["domain"], ())) for word in words):
        yield f"the request says nothing of domain {slots['domain']!r}"


def _names(plan: HomePlan) -> Iterator[str]:
    yield from plan.areas
    yield from plan.floors
    yield from plan.devices


def _is_kind(words: Sequence[str], place: range, slots: Mapping[str, Any]) -> bool:
    """Whether a word of the home is meant as a kind here: a garage door, a tv show, the fan mode top."""
    text = " ".join(words[place.start : place.stop])
    after = words[place.stop] if place.stop < len(words) else ""
    return text in (slots.get("device_class"), slots.get("fan_mode")) or after.removesuffix("s") in (
        "show",
        "movie",
        "door",
    )


def _stem(word: str) -> str:
    return word.removesuffix("'s") if word.endswith("'s") else word.removesuffix("s")


def _numbers(words: Sequence[str], slots: Mapping[str, Any], covered: set[int]) -> Iterator[str]:
    """Numbers of the request that no argument has, and of arguments that the request lacks."""
    spoken = [word for i, word in enumerate(words) if word.isdigit() and i not in covered]
    given = {slot: str(abs(value)) for slot, value in slots.items() if isinstance(value, int)}
    missing = [number for number in spoken if number not in given.values() and number not in FRACTION]
    if missing:
        yield f"the answer lacks the number {missing[0][:20]}"
    for slot, number in given.items():
        if number not in spoken and slot.removeprefix("start_") not in WORDED:
            yield f"the request has no number {number} for {slot}"
