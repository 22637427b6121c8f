"""An agent for a model behind an endpoint, by `agent.kind`, for as many homes as there are conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slipway.agents.attempts import Maker
from slipway.agents.intents_agent import IntentsAgent, asking
from slipway.config.agent import AgentConfig
from slipway.engines.chat_client import ChatClient
from slipway.errors import ConfigError


@contextmanager
def agents_at(url: str, model: str, config: AgentConfig, timeout_s: float, key: str | None = None) -> Iterator[Maker]:
    """What makes an agent in a home, while the block runs. Kind `tools` asks the server first whether it passes tools.

    Raises ConfigError for kind `off` and for a server that passes none, EngineError when the model does not answer.
    """
    if config.kind == "off":
        raise ConfigError("agent.kind", "off", "intents or tools", "`layers.agent=agent/home`, or --set kind=intents")
    with ChatClient(url, model, timeout_s, key=key) as client:
        if config.kind == "tools":
            from slipway.agents.tool_probe import require_tools
            from slipway.agents.tools_agent import ToolsAgent, chat_model

            require_tools(client, config)
            chat = chat_model(url, model, timeout_s, key)
            yield lambda home: ToolsAgent(chat, home, config)
        else:
            yield lambda home: IntentsAgent(asking(client, config), home, config)
