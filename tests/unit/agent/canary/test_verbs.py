"""What the verbs refuse; with HAProxy and engines they are in tests/lab/deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.canary.captured import CapturedPrompts
from slipway.errors import ConfigError, StateError


@pytest.mark.parametrize(("verb", "document"), [("mirror", {"on": True}), ("pairs", {}), ("shared", {})])
def test_a_canary_is_a_part_of_a_transaction(tmp_path: Path, verb: str, document: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no transaction is open"):
        Agent(tmp_path).call(verb, document)


def test_capture_needs_a_proxy_and_leaves_the_lock(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    settings = {"host": "127.0.0.1", "ports": [8091, 8099], "keep_releases": 3, "proxy": {"kind": "none"}}
    with pytest.raises(ConfigError, match="clients reach the engine itself"):
        agent.call("capture", {"do": "on", "days": 1, "megabytes": 1, "settings": settings})
    assert agent.lock.holder() is None
    assert agent.call("capture", {"do": "status"})["status"]["on"] is False


def test_captured_prompts_are_shown_newest_last(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path / "capture")
    prompts.turn_on(1, 1, "jo")
    for i in range(3):
        prompts.keep({"messages": [{"content": f"p{i}"}]})
    rows = Agent(tmp_path).call("capture", {"do": "show", "most": 2})["prompts"]
    assert [row["request"]["messages"][0]["content"] for row in rows] == ["p1", "p2"]


def test_an_action_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="do: pause"):
        Agent(tmp_path).call("capture", {"do": "pause"})
