"""For tests of agents: a small home, rows of commands, and a model whose answers are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.agents.home import Home, HomePlan, new_home
from slipway.engines.chat_client import Answer, Message

SMALL = HomePlan.model_validate(
    {
        "here": "den",
        "floors": {"upstairs": ["attic"], "ground": ["den", "garage"]},
        "devices": {
            "desk lamp": "light",
            "spotlight": "light",
            "tower fan": "fan",
            "heater": "climate",
            "radio": "media_player",
            "front door": "lock",
            "movie night": "scene",
        },
        "covers": ["blind"],
        "player": "radio",
        "people": ["alice"],
        "zones": ["home", "work"],
        "places": ["oslo"],
        "words": ["dim"],
    }
)


def small_home(*timers: Mapping[str, Any], seed: int = 0) -> Home:
    """A home of three rooms in a state of the seed."""
    return new_home(SMALL, seed, timers)


def timer(seconds: int, *, name: str | None = None, area: str = "den", paused: bool = False) -> dict[str, Any]:
    """A timer that was just started."""
    return {
        "name": name, "area": area, "seconds": seconds, "remaining": seconds, "paused": paused, "command": None,
    }  # fmt: skip


def row(text: str, intent: str, template: str = "", **slots: Any) -> dict[str, Any]:
    """A test row: a command and its intent."""
    answer = json.dumps({"intent": intent, **slots})
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"id": f"{intent}.{text}", "messages": messages, "label": intent, "template": template or intent}


def rows_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def reply(text: str) -> Answer:
    """An answer of a model that wrote this text."""
    return Answer(text, "stop", 7, len(text.split()), 0.0, (), 0.0, 0)


class Replies:
    """A model whose answers are given, in order; a mapping or intent is written as JSON. Keeps what it was asked."""

    def __init__(self, *answers: str | Mapping[str, Any]) -> None:
        self.asked: list[Sequence[Message]] = []
        self._answers = [one if isinstance(one, str) else json.dumps(one) for one in answers]

    def __call__(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Answer:
        self.asked.append(list(messages))
        return reply(self._answers.pop(0))


def by_text(answers: Mapping[str, Mapping[str, Any]]) -> Callable[[Sequence[Message], Mapping[str, Any]], Answer]:
    """A model that answers a request by its text."""
    return lambda messages, _: reply(json.dumps(answers[str(messages[-1]["content"])]))
