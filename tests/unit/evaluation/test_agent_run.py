"""Tasks given to agents: order, and what an interruption keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agents.home import Home
from slipway.agents.intents_agent import IntentsAgent
from slipway.agents.tasks import Task, TaskTurn, with_expected
from slipway.config.agent import AgentConfig
from slipway.errors import EngineError
from slipway.evaluation.agent_run import run_tasks
from slipway.system.progress import Progress
from tests.support.commands import SMALL, by_text, timer

ANSWERS = {
    "stop the tea timer": {"intent": "HassCancelTimer", "name": "tea"},
    "stop the nap timer": {"intent": "HassCancelTimer", "name": "nap"},
    "stop the cake timer": {"intent": "HassPauseTimer", "name": "cake"},
}
TASKS = [
    with_expected(
        Task(
            id=name,
            kind="single",
            timers=[timer(60, name=name)],
            turns=[TaskTurn(request=f"stop the {name} timer", gold=[{"intent": "HassCancelTimer", "name": name}])],
        ),
        SMALL,
    )
    for name in ("tea", "nap", "cake")
]


def agent_in(home: Home) -> IntentsAgent:
    return IntentsAgent(by_text(ANSWERS), home, AgentConfig(kind="intents"))


def test_items_and_traces_are_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    items, traces = run_tasks(TASKS, SMALL, agent_in, 3, tmp_path / "p.jsonl", Progress())
    assert [item["id"] for item in items] == [trace["id"] for trace in traces] == ["tea", "nap", "cake"]
    assert [item["metrics"]["agent_success"] for item in items] == [1.0, 1.0, 0.0]
    assert traces[2]["turns"][0]["steps"][0]["call"] == {"intent": "HassPauseTimer", "name": "cake"}


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path: Path) -> None:
    def dies(home: Home) -> IntentsAgent:
        if "nap" in str(home.state["timers"]):
            raise EngineError("endpoint", "gone", "an answer", "again")
        return agent_in(home)

    partial = tmp_path / "p.jsonl"
    with pytest.raises(EngineError):
        run_tasks(TASKS, SMALL, dies, 1, partial, Progress())
    kept = len(partial.read_text().splitlines())
    assert kept >= 1
    partial.write_text(partial.read_text() + '{"item": half')
    asked: list[Home] = []

    def counted(home: Home) -> IntentsAgent:
        asked.append(home)
        return agent_in(home)

    items, _ = run_tasks(TASKS, SMALL, counted, 1, partial, Progress())
    assert (len(items), len(asked)) == (3, 3 - kept)
