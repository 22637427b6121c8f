"""Section `agent`: off unless a layer turns it on."""

from __future__ import annotations

import pytest

from slipway.config.agent import AgentConfig
from slipway.config.load import load_config
from slipway.errors import ConfigError
from tests.unit.config.test_load import CONF


def test_it_is_off_by_default_and_a_layer_turns_it_on() -> None:
    assert load_config(CONF).agent == AgentConfig(kind="off")
    assert load_config(CONF, ["layers.agent=agent/home", "agent.kind=off"]).agent.kind == "off"
    agent = load_config(CONF, ["layers.agent=agent/home"]).agent
    assert (agent.kind, agent.system, agent.max_steps, agent.repairs) == ("intents", "Intent as JSON.", 6, 2)


@pytest.mark.parametrize(
    "word", ["agent.kind=robot", "agent.repairs=3", "agent.max_steps=0", "agent.tasks=3", "agent.x=1"]
)
def test_other_values_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word.split("=")[0]):
        load_config(CONF, [word])
