"""An agent's attempt at a task: its turns, and what is different in the home afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slipway.agents.home import Home, HomePlan, changes, new_home
from slipway.agents.tasks import Task
from slipway.agents.turns import Turn


class Agent(Protocol):
    """Who carries out requests in a home, remembering those before."""

    def turn(self, request: str, documents: Sequence[str] = ()) -> Turn:
        """Carry out one request."""


Maker = Callable[[Home], Agent]


@dataclass(frozen=True)
class Attempt:
    """What came of a task: `changes` as `home.changes` gives them, `readings` in their order."""

    turns: Sequence[Turn]
    changes: dict[str, Any]
    readings: Sequence[dict[str, Any]]

    @property
    def tokens(self) -> int:
        """Tokens that the model wrote."""
        return sum(turn.tokens for turn in self.turns)


def attempt(task: Task, plan: HomePlan, agent_in: Maker) -> Attempt:
    """Let a new agent work on a task in a home of its own. Raises EngineError when the model does not answer."""
    home = new_home(plan, task.seed, task.timers)
    start, agent = home.copy(), agent_in(home)
    turns = [agent.turn(turn.request, turn.documents) for turn in task.turns]
    return Attempt(turns, changes(start.state, home.state), tuple(home.readings))
