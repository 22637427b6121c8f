"""Which task the data is, by its training answers, and which metrics a task has when none are asked for.

In this order: answers that call tools; JSON; numbers or words of which few are distinct (labels); numbers; else free
text. Most answers decide, not all: a few odd rows change nothing.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.config.evaluate import EvaluateConfig
from slipway.data.messages import calls_of
from slipway.data.rows import Row
from slipway.evaluation.json_metrics import parse
from slipway.evaluation.text_metrics import is_number

MOST = 0.95  # share of the answers that have a form
ROWS_PER_LABEL = 3  # rows from which on an answer that comes again is a label
LABELS = 200
LABEL_CHARS = 80
METRICS = {
    "json": ("json_exact", "json_valid"),
    "tools": ("tool_calls", "tool_names"),
    "label": ("label_accuracy", "label_macro_f1"),
    "number": ("numeric", "exact"),
    "text": ("chrf", "token_f1"),
}
KEYED = ("json_exact", "label_accuracy", "label_macro_f1", "json_valid")  # JSON with a label key


@dataclass(frozen=True)
class Task:
    """A kind of task, why it was chosen, and its metrics, the primary one first."""

    kind: str
    reason: str
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        return f"task {self.kind}: {self.reason}; metrics {', '.join(self.metrics)}"


def task_of(config: EvaluateConfig, seen: tuple[str, str], label_key: str | None) -> Task:
    """The task that `look` has seen in the training answers, or as `evaluate.task` says; its metrics or those of
    `evaluate.metrics`."""
    kind, reason = seen
    if config.task == "auto":
        reason += f" (evaluate.task={'|'.join(k for k in METRICS if k != kind)} says otherwise)"
    else:
        kind, reason = config.task, "evaluate.task says so"
    default = KEYED if kind == "json" and label_key is not None else METRICS[kind]
    return Task(kind, reason, tuple(config.metrics) if config.metrics is not None else default)


def answer_limit(longest: int) -> int:
    """Tokens that a model may write when the longest reference answer has `longest`: a quarter more, at least 8, so
    that a template's own tokens fit and an answer that runs on is seen to do so."""
    return longest + max(8, longest // 4)


def look(rows: Sequence[Row], label_key: str | None) -> tuple[str, str]:
    """The kind of task of at least one training row, and why."""
    n = len(rows)
    calling = sum(bool(calls_of(row["messages"][-1])) for row in rows)
    if calling and calling >= n / 2:
        return "tools", f"{_share(calling, n)} of the training answers call tools"
    answers = [str(row["messages"][-1].get("content") or "") for row in rows]
    structures = sum(isinstance(parse(text)[1], dict | list) for text in answers)
    if structures >= MOST * n:
        with_key = f" with the label key {label_key!r}" if label_key is not None else ""
        return "json", f"{_share(structures, n)} of the training answers are JSON{with_key}"
    distinct = Counter(unicodedata.normalize("NFC", text).strip() for text in answers)
    if _are_labels(distinct, n):
        return "label", f"{len(distinct)} distinct answers in {n} training rows"
    numbers = sum(map(is_number, answers))
    if numbers >= MOST * n:
        return "number", f"{_share(numbers, n)} of the training answers are a number"
    return "text", f"{len(distinct)} distinct answers in {n} training rows, {_share(structures, n)} of them JSON"


def _are_labels(distinct: Counter[str], rows: int) -> bool:
    """Few short answers that come again and again."""
    few = len(distinct) <= LABELS and len(distinct) * ROWS_PER_LABEL <= rows
    return few and all(len(text) <= LABEL_CHARS and "\n" not in text for text in distinct)


def _share(part: int, whole: int) -> str:
    return "all" if part == whole else f"{100 * part / whole:.0f}%"
