"""Whether a server passes tools: asked before anything is measured."""

from __future__ import annotations

import pytest

from slipway.agents import tool_probe
from slipway.agents.tool_probe import require_tools
from slipway.config.agent import AgentConfig
from slipway.engines.chat_client import ChatClient
from slipway.errors import ConfigError, EngineError
from tests.support.scripted_server import scripted
from tests.support.tool_server import tool_server

CONFIG = AgentConfig(kind="tools", system="S")


def test_a_required_call_that_comes_back_is_enough() -> None:
    with tool_server() as (url, asked), ChatClient(url, "m", 5) as client:
        require_tools(client, CONFIG)
    assert asked[0]["tool_choice"] == "required"
    assert len(asked[0]["tools"]) == 24
    assert asked[0]["messages"][0] == {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ("say hello", "answered with text in place of a required call: 'hello'"),
        ("call dance", "called 'dance'"),
        ("refuse", "refused: HTTP 400"),
    ],
)
def test_a_server_without_tools_is_named(monkeypatch: pytest.MonkeyPatch, probe: str, problem: str) -> None:
    monkeypatch.setattr(tool_probe, "PROBE", probe)
    with (
        scripted() as (url, _),
        ChatClient(url, "m", 5) as client,
        pytest.raises(ConfigError, match=problem) as err,
    ):
        require_tools(client, CONFIG)
    assert "agent.kind=intents" in err.value.next_step


def test_nobody_there_is_no_question_of_tools() -> None:
    with tool_server() as (url, _):
        pass
    with ChatClient(url, "m", 5, retries=0) as client, pytest.raises(EngineError, match="ConnectError"):
        require_tools(client, CONFIG)
