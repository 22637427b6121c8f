"""The data card: what a reader must know before trusting figures measured on this data. Holds no path and no time of
day, so that equal data makes equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slipway.data.funnel import funnel_rows
from slipway.data.row_table import I64
from slipway.data.split import NAMES, Splits

MOST_LABELS = 200
CELL_CHARS = 200


def summarise(splits: Splits, lengths: Mapping[str, I64]) -> dict[str, Any]:
    """Flat figures for MLflow: rows, templates and tokens of each split, labels."""
    table = splits.table
    every = np.concatenate([splits[name] for name in NAMES])
    figures: dict[str, Any] = {"labels": len(np.unique(table.label[every]))}
    for name in NAMES:
        figures[f"{name}_rows"] = len(splits[name])
        figures[f"{name}_templates"] = len(np.unique(table.template[splits[name]]))
        figures[f"{name}_tokens"] = int(lengths[name].sum())
    ordered = np.sort(np.concatenate([lengths[name] for name in NAMES]))
    p50, p95 = quantile(ordered, 0.50), quantile(ordered, 0.95)
    return figures | {"tokens_p50": p50, "tokens_p95": p95, "tokens_max": int(ordered[-1])}


def quantile(ordered: Sequence[int] | I64, q: float) -> int:
    """The least value that at least a share q of `ordered` does not exceed."""
    return int(ordered[max(0, -int(-q * len(ordered) // 1) - 1)])


def card(
    splits: Splits,
    lengths: Mapping[str, I64],
    funnel: Mapping[str, Sequence[Mapping[str, Any]]],
    about: Mapping[str, str],
) -> str:
    """Markdown: origin, rows and token lengths of each split, what was removed, labels, and one row as an example."""
    example = splits.table.row(int(splits.test[0]))["messages"]
    steps = funnel_rows(funnel["steps"], funnel["shares"])
    parts = [
        "# Data card",
        _table(("", ""), about.items()),
        "## Splits",
        "Whole templates (wordings) are held out: no template, text or near duplicate is in two splits.",
        _table(
            ("split", "rows", "templates", "tokens p50", "p95", "longest"),
            [_split_line(splits, name, lengths[name]) for name in NAMES],
        ),
        "## From rows read to rows used",
        _table(steps[0].keys(), [line.values() for line in steps]),
        "## Labels",
        _table(("label", *NAMES), _label_lines(splits)),
        "## Example",
        "\n".join(f"- {m['role']}: `{_cell(m['content'])}`" for m in example),
    ]
    return "\n\n".join(parts) + "\n"


def _split_line(splits: Splits, name: str, lengths: I64) -> tuple[object, ...]:
    ordered = np.sort(lengths) if len(lengths) else np.zeros(1, np.int64)
    templates = len(np.unique(splits.table.template[splits[name]]))
    return (name, len(lengths), templates, quantile(ordered, 0.50), quantile(ordered, 0.95), int(ordered[-1]))


def _label_lines(splits: Splits) -> list[tuple[object, ...]]:
    """Rows of each label in each split; the most frequent labels where there are very many."""
    table = splits.table
    counts = np.array([np.bincount(table.label[splits[name]], minlength=len(table.labels)) for name in NAMES])
    present = np.flatnonzero(counts.sum(axis=0))
    most = present[np.argsort(-counts[:, present].sum(axis=0), kind="stable")][:MOST_LABELS].tolist()
    lines: list[tuple[object, ...]] = [(table.labels[i], *counts[:, i].tolist()) for i in most]
    more = [(f"and {len(present) - len(most)} more", "", "", "")] if len(present) > len(most) else []
    return [*sorted(lines, key=str), *more]


def _table(head: Iterable[object], lines: Iterable[Iterable[object]]) -> str:
    head = list(head)
    rows: list[Iterable[object]] = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)


def _cell(value: object) -> str:
    text = " ".join(str(value).replace("|", "\\|").split())
    return text if len(text) <= CELL_CHARS else f"{text[:CELL_CHARS]}..."
