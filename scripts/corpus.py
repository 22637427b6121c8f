"""Write the default raw corpus: smart-home sentences and the JSON intents they mean.

The sentences are drawn from the human-written English templates of `home-assistant-intents` (Apache-2.0), walked at
random with the names and numbers of `home.yaml`. Every sentence is then read back by `hassil`: it is kept when its
first reading and every other reading give the very slots that it was made from. Same packages and seed, same bytes, on
any machine.

Of 42 intents 24 are used. Left out: those with fewer than four templates, where holding wordings out would hold most of
the intent out (HassBroadcast, HassCancelAllTimers, HassGetCurrentDate, HassGetCurrentTime, HassLawnMowerStartMowing,
the list and shopping list intents, HassMediaPlayerMute and -Unmute, HassNevermind, HassVacuumReturnToBase,
HassVacuumStart); HassVacuumCleanArea, whose templates share no wording; HassLawnMowerDock, whose wordings (`stop
<name>`) others share, so that only the kind of device tells them apart; and HassRespond, small talk without slots.
Numbers are in digits.

    python -m scripts.corpus --out data/raw/home.jsonl --seed 17
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import home_assistant_intents
import yaml
from hassil import expression as h
from hassil.intents import IntentData, Intents, RangeSlotList, SlotList, TextSlotList
from hassil.parse_expression import parse_sentence
from hassil.recognize import RecognizeResult, recognize_all
from hassil.util import check_required_context

PINS = {"hassil": "3.12.1", "home-assistant-intents": "2026.10.27"}  # other versions make other bytes
INTENTS = (
    "HassCancelTimer",
    "HassClimateGetTemperature",
    "HassClimateSetFanMode",
    "HassClimateSetTemperature",
    "HassDecreaseTimer",
    "HassFanSetSpeed",
    "HassGetState",
    "HassGetWeather",
    "HassIncreaseTimer",
    "HassLightSet",
    "HassMediaNext",
    "HassMediaPause",
    "HassMediaPrevious",
    "HassMediaSearchAndPlay",
    "HassMediaUnpause",
    "HassPauseTimer",
    "HassSetPosition",
    "HassSetVolume",
    "HassSetVolumeRelative",
    "HassStartTimer",
    "HassTimerStatus",
    "HassTurnOff",
    "HassTurnOn",
    "HassUnpauseTimer",
)
# Legal by the templates, but not English: `the our shutters`, `which lights are my on`
AWKWARD = re.compile(
    r"\b(the|my|our|an?) "
    r"(the|my|our|an?|all|every|each|any|some|on|off|out|open|opening|closed|closing|shut|shutting"
    r"|locked|unlocked|securely)\b"
)
# `how warm is it in here`: where the speaker stands is known to the device and not to the text, so no model could
# answer it
OWN_AREA = re.compile(r"\bhere\b|\b(this|the|my|our) (room|space|area|place)\b")
# `turn down the kitchen to 30` sets its lights, `turn the kitchen down to 30` its volume: too fine a point to teach
MUST_SAY = {"HassSetVolume": "volume"}
HERE = "here"  # the speaker's own area: known to the device, never said, so it is no slot of the answer
PER_INTENT, PER_TEMPLATE, TRIES = 180, (3, 24), 12
CHUNK = 8  # templates that a process takes at a time


@dataclass(frozen=True)
class Home:
    """The system prompt, slot lists that replace the package's, and the numbers to draw for its ranges."""

    system: str
    lists: Mapping[str, SlotList]
    numbers: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Template:
    """One human-written line, in each block of the package that holds it."""

    intent: str
    text: str
    blocks: tuple[IntentData, ...]

    @property
    def id(self) -> str:
        """Intent and the first 8 hexadecimal digits of the line's SHA-256."""
        return f"{self.intent}.{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"


def read_home(path: Path) -> Home:
    """The home's lists of names and numbers out of YAML."""
    doc = yaml.safe_load(path.read_text())
    plain = {
        "area": "areas",
        "floor": "floors",
        "zone": "zones",
        "timer_name": "timer_names",
        "timer_command": "timer_commands",
        "search_query": "search_queries",
    }
    lists: dict[str, SlotList] = {
        name: TextSlotList.from_strings(doc[key], allow_template=False, name=name) for name, key in plain.items()
    }
    names = [(name, name, {"domain": domain}) for name, domain in doc["names"].items()]
    lists["name"] = TextSlotList.from_tuples(names, allow_template=False, name="name")
    return Home(doc["system"], lists, doc["numbers"])


def read_intents(home: Home) -> Intents:
    """The chosen intents of the package, with the home's lists in place of its wildcards."""
    doc = home_assistant_intents.get_intents("en")
    assert doc is not None
    doc["intents"] = {name: doc["intents"][name] for name in INTENTS}
    intents = Intents.from_dict(doc)
    intents.slot_lists.update(home.lists)
    return intents


def templates(intents: Intents) -> Iterator[Template]:
    """Template lines in the package's order; equal lines of one intent are one template."""
    for name, intent in intents.intents.items():
        lines = dict.fromkeys(text for block in intent.data for text in block.sentence_texts)
        for text in lines:
            yield Template(name, text, tuple(block for block in intent.data if text in block.sentence_texts))


class Draw:
    """One random walk through a template; collects the slots on its way. Only `random()` is used: its stream is pinned
    by Python."""

    def __init__(self, rng: random.Random, intents: Intents, home: Home, block: IntentData) -> None:
        self._rng, self._intents, self._home, self._block = rng, intents, home, block
        self.slots: dict[str, Any] = dict(block.slots)

    def pick(self, options: Sequence[Any]) -> Any:
        """One of `options`, each as likely."""
        return options[int(self._rng.random() * len(options))]

    def text(self, node: h.Expression) -> str:
        """The words of an expression, with random choices where it has alternatives."""
        match node:
            case h.TextChunk():
                return node.original_text
            case h.Alternative():
                return self.text(self.pick(node.items))
            case h.Permutation():
                items = list(node.items)
                return "".join(self.text(items.pop(int(self._rng.random() * len(items)))) for _ in range(len(items)))
            case h.Group():
                return "".join(self.text(item) for item in node.items)
            case h.RuleReference():
                return self.text(self._intents.expansion_rules[node.rule_name].expression)
            case h.ListReference():
                return self._value(node)
        raise TypeError(f"unknown node {node!r} in a template")

    def _value(self, node: h.ListReference) -> str:
        values = self._intents.slot_lists[node.list_name]
        if isinstance(values, RangeSlotList):
            number = self.pick(self._home.numbers[node.list_name])
            self.slots[node.slot_name] = int(number * (values.multiplier or 1))
            return str(number)
        assert isinstance(values, TextSlotList), node.list_name
        fitting = [v for v in values.values if v.context is None or self._fits(v.context)]
        if not fitting:
            raise LookupError(node.list_name)
        value = self.pick(fitting)
        self.slots[node.slot_name] = value.value_out
        return self.text(value.text_in)

    def _fits(self, context: Mapping[str, Any]) -> bool:
        return check_required_context(self._block.requires_context, dict(context), allow_missing_keys=True)


def sentences(
    template: Template, count: int, seed: int, intents: Intents, home: Home
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Up to `count` distinct sentences of a template with the slots they were made from, the blocks taken in turn."""
    digest = hashlib.sha256(f"{seed}:{template.id}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311 (variety, not secrecy)
    root = parse_sentence(template.text).expression
    seen: set[str] = set()
    for n in range(count * TRIES):
        draw = Draw(rng, intents, home, template.blocks[n % len(template.blocks)])
        try:
            text = re.sub(r"\s+", " ", draw.text(root)).strip()
        except LookupError:  # the home has no device for this block
            continue
        if (
            text in seen
            or AWKWARD.search(text)
            or OWN_AREA.search(text)
            or MUST_SAY.get(template.intent, "") not in text
        ):
            continue
        seen.add(text)
        answer = {"intent": template.intent, **draw.slots}
        if readings(text, intents) == [answer]:
            yield text, answer
            count -= 1
        if count == 0:
            return


def readings(text: str, intents: Intents) -> list[dict[str, Any]]:
    """The distinct answers hassil gives, its first choice first."""
    answers: list[dict[str, Any]] = []
    for result in recognize_all(text, intents, intent_context={"area": HERE}):
        if (answer := _answer(result)) not in answers:
            answers.append(answer)
    return answers


def _answer(result: RecognizeResult) -> dict[str, Any]:
    slots = {e.name: _plain(e.value) for e in result.entities_list if e.value != HERE}
    return {"intent": result.intent.name, **slots}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class _Source:
    """What a process draws from; read by each, since hassil's expressions cost more to hand on than to parse."""

    home: Home
    intents: Intents
    lines: list[Template]

    @classmethod
    def read(cls, file: Path) -> _Source:
        home = read_home(file)
        intents = read_intents(home)
        return cls(home, intents, list(templates(intents)))


_own: list[_Source] = []  # of a process of the pool: the one that `_begin` read


def _begin(file: Path) -> None:
    _own.append(_Source.read(file))


def _sentences_of(seed: int, index: int) -> list[tuple[str, dict[str, Any]]]:
    """The sentences of the template at `index`, with their answers."""
    [source] = _own
    template = source.lines[index]
    least, most = PER_TEMPLATE
    of_intent = sum(other.intent == template.intent for other in source.lines)
    count = min(most, max(least, PER_INTENT // of_intent))
    return list(sentences(template, count, seed, source.intents, source.home))


def rows(seed: int, home: Path) -> Iterator[dict[str, Any]]:
    """Chat rows of every template, in the package's order; no sentence twice. `home`: the file of names and numbers.
    Templates are drawn from by as many processes as there are processors: each has its own random walk."""
    source = _Source.read(home)
    written: set[str] = set()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), initializer=_begin, initargs=(home,)) as pool:
        drawn = pool.map(partial(_sentences_of, seed), range(len(source.lines)), chunksize=CHUNK)
        for template, lines in zip(source.lines, drawn, strict=True):
            yield from _rows_of(template, lines, source.home.system, written)


def _rows_of(
    template: Template, lines: Sequence[tuple[str, dict[str, Any]]], system: str, written: set[str]
) -> Iterator[dict[str, Any]]:
    """Rows of the sentences that no template before this one has written."""
    number = 0
    for text, answer in lines:
        if text in written:
            continue
        written.add(text)
        yield {
            "id": f"{template.id}-{number}",
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": text},
                {"role": "assistant", "content": spell(answer)},
            ],
            "label": template.intent,
            "template": template.id,
        }
        number += 1


def spell(answer: dict[str, Any]) -> str:
    """Compact JSON, the intent first: what the model has to decide first, and what the slots after it depend on."""
    slots = sorted(key for key in answer if key != "intent")
    return json.dumps({key: answer[key] for key in ("intent", *slots)}, separators=(",", ":"))


def check_pins() -> None:
    """Exit with a message when an installed package is not of the pinned version: another one makes another corpus."""
    for package, pin in PINS.items():
        if (installed := importlib.metadata.version(package)) != pin:
            sys.exit(f"package {package}: {installed}; expected {pin}. Next: pip install {package}=={pin}")


def main() -> None:
    """Write the corpus as JSON lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--seed", type=int, required=True, help="seed of the random walk")
    args = parser.parse_args()
    check_pins()
    home = Path(__file__).with_name("home.yaml")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8", newline="\n") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(args.seed, home))


if __name__ == "__main__":
    main()
