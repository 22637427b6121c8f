"""Tasks for an agent: a home in a state, requests, and the state and readings that have to result.

Expected states are computed by executing gold intents on the same home, not written by hand. A file of tasks is JSONL,
one task a line, with the fields of `Task`; a file may give `expected` without gold, or gold without `expected`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.agents.home import Home, HomePlan, Refusal, changes, new_home
from slipway.agents.intents import problem_of
from slipway.agents.tools import call
from slipway.data import strict_json
from slipway.errors import DataError

Gold = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskTurn(_Model):
    """One request, the documents that go with it, and the intents that carry it out; none where nothing must change."""

    request: str = Field(min_length=1, max_length=20000)
    documents: list[str] = Field(default_factory=list)
    gold: list[Gold] = Field(default_factory=list)


class Expected(_Model):
    """What differs from the state at the start (`home.changes`), and what was read, in order."""

    changes: dict[str, Any] = Field(default_factory=dict)
    readings: list[dict[str, Any]] = Field(default_factory=list)


class Task(_Model):
    """One task. `template`: what it was made of; tasks of one template count as one cluster. `seed` and `timers` make
    the home at the start."""

    id: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    template: str = ""
    seed: int = 0
    timers: list[dict[str, Any]] = Field(default_factory=list)
    turns: list[TaskTurn] = Field(min_length=1)
    expected: Expected | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether the home must be as it was, and nothing was asked that reads it."""
        return self.expected == Expected()


def with_expected(task: Task, plan: HomePlan) -> Task:
    """The task with its expected state, computed where it is not given. Raises Refusal where the home refuses a gold
    intent, and for one that changes and reads nothing: such a task would be solved by doing nothing."""
    home = new_home(plan, task.seed, task.timers)
    start = home.copy()
    for turn in task.turns:
        for gold in turn.gold:
            _carried_out(home, gold)
    expected = Expected(changes=changes(start.state, home.state), readings=home.readings)
    return task if task.expected is not None else task.model_copy(update={"expected": expected})


def _carried_out(home: Home, gold: Mapping[str, Any]) -> None:
    before, readings = home.copy(), len(home.readings)
    call(home, gold.get("intent", ""), {k: v for k, v in gold.items() if k != "intent"})
    if before.state == home.state and len(home.readings) == readings:
        raise Refusal(f"{gold.get('intent')} changes nothing here")


def read_tasks(file: Path, plan: HomePlan) -> list[Task]:
    """The tasks of a file, each with its expected state. Raises DataError that names every wrong line, up to five."""
    return tasks_in(_text(file), str(file), plan)


def tasks_in(text: str, source: str, plan: HomePlan) -> list[Task]:
    """The same of a file's text, which errors call `source`."""
    tasks, wrong, seen = list[Task](), list[str](), set[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            task = Task.model_validate(strict_json.parse(line))
            _check(task, seen)
            tasks.append(with_expected(task, plan))
        except (ValidationError, ValueError, Refusal) as err:
            wrong.append(f"line {number}: {_short(err)}")
    if wrong or not tasks:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        value = "; ".join(wrong[:5]) + more if wrong else "no task in it"
        raise DataError(
            f"tasks {source}",
            value,
            "a task a line, as docs/agents.md shows",
            "correct the file, or `slipway agent tasks`",
        )
    return tasks


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as err:
        raise DataError(f"tasks {file}", err.strerror or str(err), "a readable file", "correct the path") from err
    except UnicodeDecodeError as err:
        raise DataError(f"tasks {file}", f"byte {err.start} is not UTF-8", "JSONL in UTF-8", "save it so") from err


def _check(task: Task, seen: set[str]) -> None:
    if task.id in seen:
        raise ValueError(f"id {task.id!r} a second time")
    seen.add(task.id)
    for turn in task.turns:
        for gold in turn.gold:
            if problem := problem_of(gold):
                raise ValueError(f"gold: {problem}")


def _short(err: Exception) -> str:
    if isinstance(err, ValidationError):
        first = err.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(err)[:200]


def write_tasks(tasks: Iterable[Task]) -> str:
    """Tasks as JSONL, keys in order: same tasks, same bytes."""
    return "".join(json.dumps(task.model_dump(mode="json"), sort_keys=True) + "\n" for task in tasks)


def kinds_of(tasks: Sequence[Task]) -> list[str]:
    """The kinds of tasks that there are, in their order."""
    return list(dict.fromkeys(task.kind for task in tasks))
