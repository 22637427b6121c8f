"""The agent of one target: one `call` for every verb, in this process or behind a session.

A verb is a function of (agent, document, note): plain JSON documents in and out, `note` shows a step to a person while
it works. The verbs are listed in `verbs.py`; ADR 44 says what they mean together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.lock import TargetLock
from slipway.agent.paths import TargetPaths
from slipway.agent.verbs import VERBS
from slipway.errors import ConfigError

if TYPE_CHECKING:
    from slipway.agent.transaction import Transaction

Document = dict[str, Any]
Note = Callable[[str], None]
Verb = Callable[["Agent", Document, Note], Document]


class Agent:
    """What stands on a target. One transaction at a time is open in it, which holds the target's lock."""

    def __init__(self, root: Path, verbs: Mapping[str, Verb] | None = None) -> None:
        """`root`: the target's folder, made by the first change. `verbs`: default, all of `verbs.VERBS`."""
        self.paths = TargetPaths(root)
        self.lock = TargetLock(self.paths.lock, f"target {self.paths.root}")
        self.transaction: Transaction | None = None
        self._verbs = VERBS if verbs is None else verbs

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises ConfigError for a verb that there is not; else what the verb raises."""
        if verb not in self._verbs:
            next_step = "bring agent and orchestrator to one version: set the target up again"
            raise ConfigError("verb of the agent", verb[:100], f"one of {', '.join(sorted(self._verbs))}", next_step)
        return self._verbs[verb](self, document, note)

    def close(self) -> None:
        """End a transaction that is open: undone before its record, finished from there on; the lock is given back."""
        if self.transaction is not None:
            self.call("abort", {})
        self.lock.release()
