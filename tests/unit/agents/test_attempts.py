"""An attempt at a task: the home of the task, and what differs in it afterwards."""

from __future__ import annotations

from slipway.agents.attempts import attempt
from slipway.agents.home import Home
from slipway.agents.intents_agent import IntentsAgent
from slipway.agents.tasks import Task, TaskTurn
from slipway.config.agent import AgentConfig
from tests.support.commands import SMALL, by_text, timer

ANSWERS = {
    "stop my timer": {"intent": "HassCancelTimer"},
    "what is the weather": {"intent": "HassGetWeather"},
}


def test_turns_share_one_home_and_one_agent() -> None:
    made: list[Home] = []

    def agent_in(home: Home) -> IntentsAgent:
        made.append(home)
        return IntentsAgent(by_text(ANSWERS), home, AgentConfig(kind="intents"))

    task = Task(id="a", kind="k", timers=[timer(60)], turns=[TaskTurn(request=text) for text in ANSWERS])
    tried = attempt(task, SMALL, agent_in)
    assert len(made) == 1
    assert tried.changes == {"timers.1": None}
    assert [one["tool"] for one in tried.readings] == ["HassGetWeather"]
    assert [turn.request for turn in tried.turns] == list(ANSWERS)
    assert tried.tokens == sum(turn.tokens for turn in tried.turns) > 0
