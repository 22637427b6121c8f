"""One call for every verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.errors import ConfigError


def test_a_verb_is_called_with_document_and_note(tmp_path: Path) -> None:
    notes: list[str] = []

    def echo(agent: Agent, document: dict, note) -> dict:
        note("echoed")
        return {"root": str(agent.paths.root), **document}

    agent = Agent(tmp_path, {"echo": echo})
    assert agent.call("echo", {"a": 1}, notes.append) == {"root": str(tmp_path), "a": 1}
    assert notes == ["echoed"]


def test_a_verb_of_another_version_is_refused_naming_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"verb of the agent: fly; expected one of .*holder"):
        Agent(tmp_path).call("fly", {})
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
