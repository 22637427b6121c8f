"""Tasks out of test rows: each kind, its expected state worked out by hand, the same ones every time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from slipway.agents.task_templates import DEVICES, NO_COMMANDS, QUESTIONS, ROOMS, gold_of, tasks_of, text_of
from slipway.agents.tasks import Task, write_tasks
from slipway.errors import DataError
from tests.support.commands import SMALL, row

ROWS = [
    row("set the desk lamp in the attic to 40", "HassLightSet", name="desk lamp", area="attic", brightness=40),
    row("play queen", "HassMediaSearchAndPlay", search_query="queen"),
    row("lock the front door", "HassTurnOn", name="front door"),
    row("how long is the tea timer", "HassTimerStatus", name="tea"),
    row("stop my timer for 5 minutes", "HassCancelTimer", start_minutes=5),
    row("what is the weather in oslo", "HassGetWeather", name="oslo"),
]


def made(count: int = 240) -> dict[str, list[Task]]:
    tasks = tasks_of(ROWS, SMALL, count)
    return {kind: [task for task in tasks if task.kind == kind] for kind in {task.kind for task in tasks}}


def test_every_kind_is_made_and_says_the_state_that_must_result() -> None:
    tasks = made()
    single = {task.turns[0].request: task.expected for task in tasks["single"]}
    assert len(single) == len(ROWS)
    lamp = single["set the desk lamp in the attic to 40"]
    assert lamp is not None and lamp.changes["devices.attic/desk lamp.brightness"] == 40
    played = single["play queen"]
    assert played is not None and played.changes["devices.den/radio.playing"] == {"query": "queen", "class": None}
    tea = single["how long is the tea timer"]
    assert tea is not None and (tea.changes, tea.readings[0]["timer"]) == ({}, "1")
    for kind in ("unknown_room", "unknown_device", "no_command", "document"):
        assert tasks[kind] and all(task.changes_nothing for task in tasks[kind]), kind
    assert all(set(task.turns[0].request.split()) & {r for rooms in ROOMS for r in rooms.split()}
               for task in tasks["unknown_room"])  # fmt: skip
    assert all(any(name in task.turns[0].request for name in DEVICES) for task in tasks["unknown_device"])
    assert {task.turns[0].request for task in tasks["document"]} <= set(QUESTIONS)
    assert all(task.turns[0].documents for task in (*tasks["document"], *tasks["document_beside"]))
    assert len(tasks["no_command"]) == min(7, len(NO_COMMANDS))


def test_joined_commands_are_each_expected_and_no_two_are_about_timers() -> None:
    for kind, size in (("two", 2), ("three", 3)):
        for task in made()[kind]:
            intents = [gold["intent"] for gold in task.turns[0].gold]
            assert len(intents) == size
            assert sum("Timer" in name for name in intents) <= 1


def test_a_follow_up_repeats_the_command_in_another_room() -> None:
    (task,) = made()["follow_up"]
    first, second = task.turns[0].gold[0], task.turns[1].gold[0]
    assert (first["area"], second) == ("attic", {**first, "area": second["area"]})
    assert second["area"] in ("den", "garage") and second["area"] in task.turns[1].request
    assert task.expected is not None
    assert task.expected.changes[f"devices.{second['area']}/desk lamp.brightness"] == 40


def test_every_gold_intent_has_an_effect_of_its_own() -> None:
    """Doing nothing solves no task but those in which nothing may change."""
    for tasks in made().values():
        for task in tasks:
            assert task.expected is not None
            assert bool(task.expected.changes or task.expected.readings) == any(turn.gold for turn in task.turns)


def test_they_are_the_same_every_time_and_spread_over_kinds() -> None:
    assert write_tasks(tasks_of(ROWS, SMALL, 60)) == write_tasks(tasks_of(ROWS, SMALL, 60))
    ids = [task.id for task in tasks_of(ROWS, SMALL, 20)]
    assert len(set(ids)) == len(ids)
    assert min(Counter(task.kind for task in tasks_of(ROWS, SMALL, 10)).values()) >= 1


@pytest.mark.parametrize("answer", ["no json", '{"intent": "HassDance"}', "[1]"])
def test_rows_that_are_no_commands_of_a_home_are_named(answer: str) -> None:
    other: dict[str, Any] = row("x", "HassTurnOn", name="radio")
    other["messages"][-1]["content"] = answer
    with pytest.raises(DataError, match=r"row HassTurnOn\.x"):
        tasks_of([other], SMALL, 10)


def test_text_and_gold_of_a_row() -> None:
    assert text_of(ROWS[1]) == "play queen"
    assert gold_of(ROWS[1]) == {"intent": "HassMediaSearchAndPlay", "search_query": "queen"}
