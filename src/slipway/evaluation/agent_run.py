"""Tasks given to agents, several at a time, each result on the disk before the next progress report: an evaluation that
was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from slipway.agents.attempts import Maker, attempt
from slipway.agents.home import HomePlan
from slipway.agents.tasks import Task
from slipway.evaluation.agent_tasks import score
from slipway.evaluation.metric import Item
from slipway.system.files import write_atomic
from slipway.system.progress import Progress

Trace = dict[str, Any]


def run_tasks(
    tasks: Sequence[Task], plan: HomePlan, agent_in: Maker, slots: int, partial: Path, progress: Progress
) -> tuple[list[Item], list[Trace]]:
    """Items and traces of the tasks, in their order. `slots`: tasks at a time; `partial`: the file that keeps what is
    done. Raises EngineError when the model does not answer."""
    done = _done_before(partial)
    if done:
        progress.note(f"{len(done)} tasks were done before the interruption")
    solved = sum(row["item"]["metrics"]["agent_success"] for row in done.values())
    pool = ThreadPoolExecutor(slots)
    try:
        open_tasks = {pool.submit(_one, task, plan, agent_in): task for task in tasks if task.id not in done}
        with partial.open("a", buffering=1, encoding="utf-8", newline="\n") as out:
            for future in as_completed(open_tasks):
                row = future.result()
                out.write(json.dumps(row) + "\n")
                done[row["item"]["id"]] = row
                solved += row["item"]["metrics"]["agent_success"]
                progress.update("agent", len(done), len(tasks), "tasks", agent_success=round(solved / len(done), 4))
    finally:  # not waited for: what serves is stopped next
        pool.shutdown(wait=False, cancel_futures=True)
    return [done[task.id]["item"] for task in tasks], [done[task.id]["trace"] for task in tasks]


def _one(task: Task, plan: HomePlan, agent_in: Maker) -> dict[str, Any]:
    tried = attempt(task, plan, agent_in)
    trace = {"id": task.id, "kind": task.kind, "turns": [turn.to_json() for turn in tried.turns]}
    return {"item": score(task, tried), "trace": trace}


def _done_before(partial: Path) -> dict[str, dict[str, Any]]:
    """What an interrupted evaluation kept; a half-written last line is cut off."""
    if not partial.exists():
        return {}
    whole = partial.read_bytes().rpartition(b"\n")[0]
    write_atomic(partial, (whole + b"\n" if whole else b"").decode("ascii"))
    rows = [json.loads(line) for line in whole.split(b"\n") if line]
    return {row["item"]["id"]: row for row in rows}
