"""What an agent did in one turn, kept step by step: the traces that an evaluation stores and a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

BEGIN, END = "<document>", "</document>"


@dataclass
class Step:
    """One command of a request: what the model was asked and answered, and what came of it.

    `attempts`: what the model wrote, with the problem of each (empty for none). `by`: `model`, or `memory` for a
    command that only repeats the last one elsewhere. `call`: the tool and its arguments, None where none was called.
    `result`: what the tool answered. `refused`: why nothing was done, empty where something was.
    """

    request: str
    by: str = "model"
    attempts: list[dict[str, str]] = field(default_factory=list)
    call: dict[str, Any] | None = None
    result: str = ""
    refused: str = ""

    @property
    def repairs(self) -> int:
        """How often the model was asked again."""
        return max(0, len(self.attempts) - 1)

    def line(self) -> str:
        """The step in a line for people."""
        if self.call is None:
            return f"{self.request}: not done: {self.refused}"
        slots = ", ".join(f"{key}={value}" for key, value in self.call.items() if key != "intent")
        outcome = f"refused: {self.refused}" if self.refused else self.result
        return f"{self.request}: {self.call['intent']}({slots}) -> {outcome}"


@dataclass
class Turn:
    """One request and its steps. `stopped`: why it ended early, empty where it did not. `tokens`: that the model
    wrote; `retries`: of the transport."""

    request: str
    steps: list[Step] = field(default_factory=list)
    stopped: str = ""
    text: str = ""
    tokens: int = 0
    retries: int = 0

    @property
    def refusals(self) -> list[str]:
        """Why commands were not carried out."""
        return [step.refused for step in self.steps if step.refused] + ([self.stopped] if self.stopped else [])

    def to_json(self) -> dict[str, Any]:
        """The trace as JSON values."""
        return asdict(self)


def with_documents(request: str, documents: Sequence[str]) -> str:
    """A user message: the request, and texts between markers, which are material and no request. Markers within a text
    lose their brackets, so that no text can end early and go on as a request."""
    blocks = [f"{BEGIN}\n{_unmarked(text)}\n{END}" for text in documents]
    return "\n\n".join([request, *blocks])


def _unmarked(text: str) -> str:
    for marker in (BEGIN, END):
        text = text.replace(marker, marker.strip("<>"))
    return text
