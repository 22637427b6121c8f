"""How a metric is measured: a declaration with a function over one item, or over all items at once.

A metric of your own is a plain function `(expected: str, answer: str, row: dict) -> float | bool | None` behind an
entry point (`python_metrics`); the shipped ones are built from the config (`shipped`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.data.reasoning import parted
from slipway.data.rows import Row
from slipway.evaluation.metric import Metric


@dataclass(frozen=True)
class Example:
    """What a metric sees of one item: the test row, the whole text that the model wrote but for its reasoning, and the
    tools it called (`{"name", "arguments"}` each, arguments as the text that the model wrote)."""

    row: Row
    answer: str
    calls: Sequence[dict[str, Any]] = field(default=())

    @property
    def expected(self) -> str:
        """The text of the reference answer without reasoning; empty where the row expects tool calls only."""
        return parted(str(self.row["messages"][-1].get("content") or ""))[1]


@dataclass(frozen=True)
class Scorer:
    """A metric with its function. `score` gives the value of one item, None where the metric does not apply to it.

    `score_all`, where given, replaces those values after the last item: for figures of the whole test set, as values
    per item whose mean is the figure.
    """

    metric: Metric
    score: Callable[[Example], float | None]
    score_all: Callable[[Sequence[Example]], Sequence[float | None]] | None = None
