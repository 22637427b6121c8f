"""Section `agent`: an agent on the served model, and how it is evaluated. docs/agents.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from slipway.config.base import InputFile, Section


def _off(value: object) -> object:
    """YAML reads `off` as false."""
    return "off" if value is False else value


class AgentConfig(Section):
    """An agent that carries out requests in a home with the model's answers."""

    kind: Annotated[Literal["off", "intents", "tools"], BeforeValidator(_off)] = Field(
        "off",
        description="`intents`: the model answers a command with one JSON intent, the runner is ours; `tools`: native "
        "OpenAI tool calls, for models and servers that have them; `off`: no agent is evaluated.",
    )
    home: InputFile | None = Field(None, description="YAML file of the simulated home; null: the shipped one.")
    system: str = Field("", max_length=4000, description="System prompt, as the model was trained with; empty: none.")
    max_steps: int = Field(6, ge=1, le=50, description="Most commands of one request, or requests to the model.")
    repairs: int = Field(2, ge=0, le=2, description="How often a wrong answer is asked for again.")
    split: bool = Field(True, description="Whether a request of several commands is split before it is asked.")
    documents: bool = Field(
        False,
        description="Whether texts that go with a request are shown to a model of kind `intents`, whose answers can "
        "use none of them; kind `tools` gets them always.",
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest answer, tokens.")
    tasks: int = Field(
        240, ge=10, description="Tasks of the evaluation, made of test rows; fewer where there are not enough rows."
    )
    tasks_file: InputFile | None = Field(
        None, description="JSONL with tasks of your own in their place; null: made of the test rows."
    )
