"""Tasks given to agents, several at a time, each result on the disk before the next progress report: an evaluation that
was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from slipway.agents.attempts import Maker, attempt
from slipway.agents.home import HomePlan
from slipway.agents.tasks import Task
from slipway.evaluation.agent_tasks import score
from slipway.evaluation.metric import Item
from slipway.evaluation.resumable import resumable
from slipway.system.progress import Progress

Trace = dict[str, Any]


def run_tasks(
    tasks: Sequence[Task], plan: HomePlan, agent_in: Maker, slots: int, done: Path, progress: Progress
) -> tuple[list[Item], list[Trace]]:
    """Items and traces of the tasks, in their order. `slots`: tasks at a time; `done`: the file that keeps what is
    done. Raises EngineError when the model does not answer."""
    work = {task.id: partial(_one, task, plan, agent_in) for task in tasks}
    made = resumable(work, slots, done, progress, "tasks", _solved)
    return [row["item"] for row in made.values()], [row["trace"] for row in made.values()]


def _solved(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {"agent_success": fmean(row["item"]["metrics"]["agent_success"] for row in rows)}


def _one(task: Task, plan: HomePlan, agent_in: Maker) -> dict[str, Any]:
    tried = attempt(task, plan, agent_in)
    trace = {"id": task.id, "kind": task.kind, "turns": [turn.to_json() for turn in tried.turns]}
    return {"item": score(task, tried), "trace": trace}
