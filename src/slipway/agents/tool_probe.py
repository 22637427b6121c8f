"""Whether a server really passes tools to the model: a chat template without tools drops them, and even a required call
is answered with plain text and HTTP 200 (seen with llama-server). Asked before the first task, so that no evaluation
measures a model that never saw its tools.
"""

from __future__ import annotations

import json

from slipway.agents.intents import INTENTS, openai_tools
from slipway.config.agent import AgentConfig
from slipway.engines.chat_client import ChatClient
from slipway.errors import ConfigError, EngineError

PROBE = "Start a timer for 5 minutes."
NEXT = "agent.kind=intents, or a chat template (and server options) with tools"


def require_tools(client: ChatClient, config: AgentConfig) -> None:
    """Return when a required call comes back as a call of one of the tools with JSON arguments. Raises ConfigError
    where it does not, EngineError when nobody answers."""
    messages = [{"role": "system", "content": config.system}] if config.system else []
    messages.append({"role": "user", "content": PROBE})
    try:
        answer = client.ask(messages, config.max_new_tokens, tools=openai_tools(), tool_choice="required")
    except EngineError as err:
        if "HTTP 4" in str(err.value) or "HTTP 5" in str(err.value):  # says itself that it has no tools
            raise ConfigError(
                "agent.kind=tools", f"refused: {err.value}"[:400], "a server that passes tools", NEXT
            ) from err
        raise
    if not answer.calls:
        value = f"answered with text in place of a required call: {answer.text[:120]!r}"
        raise ConfigError("agent.kind=tools", value, "a server that passes tools to the model", NEXT)
    name, arguments = answer.calls[0]["name"], answer.calls[0]["arguments"]
    if name not in INTENTS or not _is_object(arguments):
        value = f"called {name[:60]!r} with {arguments[:80]!r}"
        raise ConfigError("agent.kind=tools", value, "a call of one of the tools, arguments in JSON", NEXT)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
