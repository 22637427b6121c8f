"""Tasks: expected states by executing gold intents, files of tasks and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agents.home import Refusal
from slipway.agents.tasks import Expected, Task, TaskTurn, kinds_of, read_tasks, with_expected, write_tasks
from slipway.errors import DataError
from tests.support.commands import SMALL, timer

CANCEL = {"intent": "HassCancelTimer", "name": "tea"}
TASK = Task(
    id="a",
    kind="single",
    timers=[timer(60, name="tea"), timer(90)],
    turns=[TaskTurn(request="stop the tea timer", gold=[CANCEL])],
)


def test_the_expected_state_comes_of_executing_gold() -> None:
    assert with_expected(TASK, SMALL).expected == Expected(changes={"timers.1": None})
    reading = {"tool": "HassTimerStatus", "timer": "2", "remaining": 90, "paused": False}
    asked = TASK.model_copy(
        update={"turns": [TaskTurn(request="x", gold=[CANCEL, {"intent": "HassTimerStatus"}])]}
    )  # what is left after the first is the only timer
    assert with_expected(asked, SMALL).expected == Expected(changes={"timers.1": None}, readings=[reading])
    nothing = with_expected(TASK.model_copy(update={"turns": [TaskTurn(request="x")]}), SMALL)
    assert nothing.changes_nothing


def test_gold_that_is_refused_or_does_nothing_makes_no_task() -> None:
    for gold, reason in (
        ({"intent": "HassCancelTimer"}, "2 timers are meant"),
        ({"intent": "HassUnpauseTimer", "name": "tea"}, "changes nothing"),
    ):
        with pytest.raises(Refusal, match=reason):
            with_expected(TASK.model_copy(update={"turns": [TaskTurn(request="x", gold=[gold])]}), SMALL)


def test_a_file_keeps_tasks_as_they_are(tmp_path: Path) -> None:
    tasks = [with_expected(TASK, SMALL), with_expected(TASK.model_copy(update={"id": "b", "kind": "two"}), SMALL)]
    (tmp_path / "t.jsonl").write_text(write_tasks(tasks))
    assert read_tasks(tmp_path / "t.jsonl", SMALL) == tasks
    assert kinds_of(tasks) == ["single", "two"]


def test_a_file_may_leave_out_what_gold_says(tmp_path: Path) -> None:
    line = {"id": "a", "kind": "mine", "timers": [timer(60, name="tea")], "turns": [{"request": "x", "gold": [CANCEL]}]}
    (tmp_path / "t.jsonl").write_text(json.dumps(line) + "\n\n")
    (task,) = read_tasks(tmp_path / "t.jsonl", SMALL)
    assert task.expected == Expected(changes={"timers.1": None})


def line(**values: Any) -> str:
    return json.dumps({"id": "a", "kind": "k", "turns": [{"request": "x"}], **values})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no task in it"),
        ("{", "line 1"),
        ("[]", "line 1"),
        (line(turns=[]), "line 1: turns"),
        (line(speed=1), "line 1: speed"),
        (line() + "\n" + line(), "line 2: id 'a' a second time"),
        (line(turns=[{"request": "x", "gold": [{"intent": "HassDance"}]}]), "gold: there is no tool 'HassDance'"),
        (line(turns=[{"request": "x", "gold": [CANCEL]}]), "line 1: there is no such timer"),
        ('{"id": "a", "id": "b"}', "line 1"),
        ("\n".join(line(id=str(n), kind="") for n in range(9)), "and 4 more"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_tasks(tmp_path / "t.jsonl", SMALL)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_tasks(tmp_path / "t.jsonl", SMALL)
    with pytest.raises(DataError, match="No such file"):
        read_tasks(tmp_path / "none.jsonl", SMALL)
