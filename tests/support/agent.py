"""An agent and the engines of `tests/support/target.py`, driven by its verbs alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slipway.agent.agent import Agent
from slipway.agent.releases import Releases
from slipway.deployment.start_document import start_document
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.support.target import JSON_ANSWER, make_engine


def settings(**more: Any) -> dict[str, Any]:
    """Settings with a range of ports of their own."""
    first = any_port()
    return {"ports": [first, first + 9], "start_timeout_s": 60, **more}


def record(engine: Engine) -> dict[str, Any]:
    """A release's record as an orchestrator gives it."""
    return {"model": "m", "digests": {"engine": engine.digest}, "runs": {}, "outcome": "pass"}


def stage_document(engine: Engine, **more: Any) -> dict[str, Any]:
    """What `stage` takes for an engine of this machine."""
    documents = {"card.md": "# Card\n"}
    return {
        "engine": {"path": str(engine.path)},
        "release": record(engine),
        "start": start_document(engine.path),
        "documents": documents,
        **more,
    }


def promote(agent: Agent, engine: Engine, note: Callable[[str], None] = lambda _: None, **begin: Any) -> dict[str, Any]:
    """A whole transaction; the release's record."""
    agent.call("begin", {"action": "promote", "engine": engine.digest, **begin}, note)
    agent.call("stage", stage_document(engine), note)
    agent.call("start", {}, note)
    agent.call("switch", {"smoke": [{"id": "t0"}]}, note)
    return dict(agent.call("commit", {}, note)["release"])


def rollback(agent: Agent, note: Callable[[str], None] = lambda _: None, **begin: Any) -> dict[str, Any]:
    """A whole rollback; the release's record."""
    agent.call("begin", {"action": "rollback", **begin}, note)
    agent.call("start", {}, note)
    agent.call("switch", {}, note)
    return dict(agent.call("commit", {}, note)["release"])


def engine(store: Store, version: int = 1, **model: Any) -> Engine:
    """An engine of a scripted server."""
    return make_engine(store, {"answer": JSON_ANSWER, "v": version, **model})


def releases(agent: Agent) -> Releases:
    """The releases of its target."""
    return Releases(agent.paths)
