"""Metrics of tool calls: the right tools with the right arguments.

A model calls a tool through the endpoint's `tool_calls` where the engine's parser reads its template, or writes the
call as JSON text (`{"name", "arguments"}`, a list of them, or one between `<tool_call>` marks); both count. Order of
calls counts as it was expected; arguments are equal as JSON values, an absent one is an empty object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.data.messages import calls_of
from slipway.evaluation.json_metrics import equal, parse
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer

_MARKED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
Call = tuple[str, Any]


def tool_calls() -> Scorer:
    """`tool_calls`: the same calls, names and arguments; for a row that expects none, none."""

    def score(example: Example) -> float:
        expected, answered = expected_calls(example), answered_calls(example)
        return float(len(expected) == len(answered) and all(map(_same, expected, answered)))

    return Scorer(Metric("tool_calls", "tool calls"), score)


def tool_names() -> Scorer:
    """`tool_names`: the same tools, whatever their arguments."""

    def score(example: Example) -> float:
        return float([name for name, _ in expected_calls(example)] == [name for name, _ in answered_calls(example)])

    return Scorer(Metric("tool_names", "tools called"), score)


def expected_calls(example: Example) -> list[Call]:
    """The calls of the row's reference answer."""
    return [(call["name"], call["arguments"]) for call in calls_of(example.row["messages"][-1])]


def answered_calls(example: Example) -> list[Call]:
    """The calls that the model made, by the endpoint's word or else by its text."""
    if example.calls:
        return [(str(call["name"]), _arguments(call["arguments"])) for call in example.calls]
    texts = _MARKED.findall(example.answer) or [example.answer]
    return [call for text in texts for call in _written(parse(text.strip())[1])]


def _written(value: Any) -> Sequence[Call]:
    """Calls in a parsed JSON text; none when it is anything else."""
    calls = value if isinstance(value, list) else [value]
    read = [_written_one(call) for call in calls]
    return [call for call in read if call is not None] if all(read) else []


def _written_one(call: Any) -> Call | None:
    call = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        return None
    return call["name"], _arguments(call.get("arguments", call.get("parameters")))


def _arguments(value: Any) -> Any:
    """Arguments as a JSON value; text that is none stays text and equals nothing that is expected."""
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip():
        return {}
    is_json, parsed = parse(value)
    return parsed if is_json else value


def _same(expected: Call, answered: Call) -> bool:
    return expected[0] == answered[0] and equal(expected[1], answered[1])
