"""Agents for an endpoint by their kind."""

from __future__ import annotations

import pytest

from slipway.agents.intents_agent import IntentsAgent
from slipway.agents.making import agents_at
from slipway.agents.tools_agent import ToolsAgent
from slipway.config.agent import AgentConfig
from slipway.errors import ConfigError
from tests.support.commands import small_home
from tests.support.scripted_server import scripted
from tests.support.tool_server import tool_server


def test_intents_are_asked_of_the_endpoint() -> None:
    with scripted() as (url, asked), agents_at(url, "m", AgentConfig(kind="intents"), 5) as agent_in:
        agent = agent_in(small_home())
        assert isinstance(agent, IntentsAgent)
        agent.turn("HassMediaNext")  # which this server answers as an intent
    assert asked[0]["model"] == "m"


def test_tools_are_probed_first() -> None:
    config = AgentConfig(kind="tools")
    with tool_server() as (url, _), agents_at(url, "m", config, 5) as agent_in:
        assert isinstance(agent_in(small_home()), ToolsAgent)
    with (
        scripted() as (url, _),
        pytest.raises(ConfigError, match="text in place of a required call"),
        agents_at(url, "m", config, 5),
    ):
        pass


def test_off_is_no_agent() -> None:
    with pytest.raises(ConfigError, match=r"agent\.kind: off"), agents_at("http://127.0.0.1:1", "m", AgentConfig(), 5):
        pass
