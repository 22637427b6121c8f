"""Which task the data is, by its training answers, and which metrics a task has when none are asked for.

In this order: answers that call tools; JSON; numbers or words that come again and again (labels); numbers; else free
text. Most answers decide, not all: a few odd rows change nothing.

Labels are a closed set: an answer is in three rows on average, and of a set of more than 200 at most one row in twenty
has an answer of its own. That share estimates how many rows to come have an answer never seen (Good and Turing); where
it is larger the answers are written and not chosen. Of 200 and fewer a long tail of rare classes is no such sign.
Numbers of more than 200 values are amounts, however often they repeat.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.config.evaluate import EvaluateConfig
from slipway.data.messages import calls_of
from slipway.data.reasoning import parted
from slipway.data.rows import Row
from slipway.evaluation.json_metrics import parse
from slipway.evaluation.text_metrics import is_number

MOST = 0.95  # share of the answers that have a form
ROWS_PER_LABEL = 3  # rows from which on an answer that comes again is a label
LABELS = 200
MOST_SINGLE = 0.05  # share of the rows whose answer no other row has, in a larger set
LABEL_CHARS = 80
SHOWN = 40
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
    answers = [parted(str(row["messages"][-1].get("content") or ""))[1] for row in rows]
    structures = sum(isinstance(parse(text)[1], dict | list) for text in answers)
    if structures >= MOST * n:
        with_key = f" with the label key {label_key!r}" if label_key is not None else ""
        return "json", f"{_share(structures, n)} of the training answers are JSON{with_key}"
    distinct = Counter(unicodedata.normalize("NFC", text).strip() for text in answers)
    if len(distinct) == 1 and n > 1:
        same = (
            f"all {n} training answers are {next(iter(distinct))[:SHOWN]!r}, so a model that only repeats it is right"
        )
        return ("text" if _why_no_labels(distinct, n) else "label"), same
    numbers = sum(map(is_number, answers))
    reason = _why_no_labels(distinct, n)
    if not reason and (len(distinct) <= LABELS or numbers < MOST * n):
        count = f"{len(distinct)} distinct answers in {n} training rows, {n / len(distinct):.1f} rows each"
        return "label", count + _spelt_otherwise(distinct)
    if numbers >= MOST * n:
        return "number", f"{_share(numbers, n)} of the training answers are a number"
    count = f"{len(distinct)} distinct answers in {n} training rows, {_share(structures, n)} of them JSON"
    return "text", f"{count}; no labels: {reason}"


def _spelt_otherwise(distinct: Counter[str]) -> str:
    """A warning of labels that are one to a reader and several to a comparison, or nothing."""
    spellings: dict[str, list[str]] = {}
    for text in distinct:
        spellings.setdefault(" ".join(text.casefold().strip(".!;:, ").split()), []).append(text)
    several = [sorted(texts) for texts in spellings.values() if len(texts) > 1]
    if not several:
        return ""
    example = " and ".join(repr(text[:SHOWN]) for text in several[0][:2])
    return f", {sum(map(len, several))} of them differ in case, white space or punctuation alone ({example})"


def _why_no_labels(distinct: Counter[str], rows: int) -> str:
    """Why the answers are no closed set of short names, or nothing."""
    if any(len(text) > LABEL_CHARS or "\n" in text for text in distinct):
        return f"some have more than {LABEL_CHARS} characters or a line end"
    if len(distinct) * ROWS_PER_LABEL > rows:
        return f"an answer is in fewer than {ROWS_PER_LABEL} rows on average"
    single = sum(count == 1 for count in distinct.values())
    if len(distinct) > LABELS and single > MOST_SINGLE * rows:
        return f"{100 * single / rows:.0f}% of the rows have an answer that no other row has"
    return ""


def _share(part: int, whole: int) -> str:
    return "all" if part == whole else f"{100 * part / whole:.0f}%"
