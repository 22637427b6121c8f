"""Agents by their end states: a task is solved when the home is exactly as expected, nothing else has changed, and the
readings asked for, no others, were given.

    agent_success        the end state of every task
    agent_single         of tasks of one command; beside it agent_exact, whether the first answer was the very intent
    agent_acted_unasked  of tasks in which nothing may change: whether something did (lower is better, the goal is 0)
    agent_steps, agent_repairs, agent_refused   means over all tasks: commands, answers asked for again, not carried out
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.agents.attempts import Attempt
from slipway.agents.tasks import Expected, Task, kinds_of
from slipway.data import strict_json
from slipway.evaluation.metric import Item, Metric, aggregate
from slipway.evaluation.statistics import wilson
from slipway.system.files import write_atomic

METRICS = (
    Metric("agent_success", "end state of all tasks"),
    Metric("agent_single", "end state of single commands"),
    Metric("agent_exact", "exact intent of single commands"),
    Metric("agent_acted_unasked", "changed what must stay", direction="lower"),
    Metric("agent_steps", "commands a task", "real", "lower", "commands"),
    Metric("agent_repairs", "answers asked for again", "real", "lower", "a task"),
    Metric("agent_refused", "commands not carried out", "real", "lower", "a task"),
)
SINGLE = "single"
SHOWN = 12  # changes of a task that items.jsonl holds in words


def score(task: Task, tried: Attempt) -> Item:
    """One line of `items.jsonl`."""
    wanted = task.expected or Expected()
    solved = tried.changes == wanted.changes and list(tried.readings) == wanted.readings
    steps = [step for turn in tried.turns for step in turn.steps]
    single = task.kind == SINGLE
    values = {
        "agent_success": float(solved),
        "agent_single": float(solved) if single else None,
        "agent_exact": float(_exact(task, tried)) if single and task.turns[0].gold else None,
        "agent_acted_unasked": float(bool(tried.changes)) if task.changes_nothing else None,
        "agent_steps": float(len(steps)),
        "agent_repairs": float(sum(step.repairs for step in steps)),
        "agent_refused": float(sum(len(turn.refusals) for turn in tried.turns)),
    }
    return {
        "id": task.id,
        "label": task.kind,
        "template": task.template,
        "request": [turn.request for turn in task.turns],
        "expected": _shown(wanted.changes, wanted.readings),
        "answer": _shown(tried.changes, tried.readings),
        "metrics": values,
        "finish": "stopped" if any(turn.stopped for turn in tried.turns) else "done",
        "tokens": tried.tokens,
        "retries": sum(turn.retries for turn in tried.turns),
    }


def _exact(task: Task, tried: Attempt) -> bool:
    """Whether the model's first answer is the gold intent, key for key."""
    steps = tried.turns[0].steps
    if len(task.turns[0].gold) != 1 or len(steps) != 1 or not steps[0].attempts:
        return False
    try:
        return bool(strict_json.parse(steps[0].attempts[0]["answer"]) == task.turns[0].gold[0])
    except ValueError:
        return False


def _shown(changes: Mapping[str, Any], readings: Sequence[Mapping[str, Any]]) -> str:
    """End state in words: what changed, then what was read."""
    words = [f"{key}={json.dumps(value)}" for key, value in sorted(changes.items())]
    more = [f"and {len(words) - SHOWN} more changes"] if len(words) > SHOWN else []
    return "; ".join([*words[:SHOWN], *more, *(f"read {json.dumps(one)}"[:300] for one in readings)]) or "nothing"


def summarize(tasks: Sequence[Task], items: Sequence[Item], confidence: float) -> dict[str, Any]:
    """`metrics.json`: the metrics with their intervals, and the share of solved tasks by kind (Wilson's interval)."""
    return {
        "n": len(items),
        "metrics": [aggregate(metric, items, confidence) for metric in METRICS],
        "confidence": confidence,
        "finish": dict(sorted(Counter(str(item["finish"]) for item in items).items())),
        "kinds": [_kind(kind, items, confidence) for kind in kinds_of(tasks)],
        "retries": sum(item["retries"] for item in items),
    }


def write_evaluation(
    out: Path, items: Sequence[Item], traces: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]
) -> None:
    """Write `items.jsonl`, `traces.jsonl` and `metrics.json`, as ASCII: a model may write half a surrogate pair."""
    for name, rows in (("items.jsonl", items), ("traces.jsonl", traces)):
        write_atomic(out / name, "".join(json.dumps(row) + "\n" for row in rows))
    write_atomic(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def _kind(kind: str, items: Sequence[Item], confidence: float) -> dict[str, Any]:
    of_kind = [item for item in items if item["label"] == kind]
    solved = sum(item["metrics"]["agent_success"] for item in of_kind)
    low, high = wilson(solved, len(of_kind), confidence)
    acted = sum(item["metrics"]["agent_acted_unasked"] or 0 for item in of_kind)
    return {
        "kind": kind,
        "n": len(of_kind),
        "solved": int(solved),
        "low": low,
        "high": high,
        "acted_unasked": int(acted),
    }
