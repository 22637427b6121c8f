"""Rows -> prepared rows: every field filled in, one row per meaning.

In this order: with `config.labels`, rows of other labels go; then exact duplicates (the whole conversation and its
answer are equal), of which the first stays; with a `label_key`, prompts that are answered in several ways, all of them;
then near duplicates of an earlier row with the same answer and system prompt (see `near_duplicates`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.config.data import DataConfig
from slipway.data.funnel import EXAMPLES, Step, example
from slipway.data.near_duplicates import greedy, near_pairs
from slipway.data.row_table import I64, RowTable
from slipway.data.rows import NumberedRow, Row, answer_json, prompt
from slipway.data.shingles import mixed, shingles
from slipway.data.text import words
from slipway.errors import DataError


@dataclass(frozen=True)
class Cleaned:
    """The rows of a table that stay, in its order, and the steps that took the others."""

    table: RowTable
    rows: I64
    steps: list[Step]


def complete(line: NumberedRow, config: DataConfig) -> Row:
    """The row with every field: keys in the order in which rows are written."""
    row = line.row
    messages = row["messages"]
    if config.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system}, *messages]
    label = (answer_json(row) or {})[config.label_key] if config.label_key else row.get("label", "all")
    template = row.get("template") or f"text-{hashlib.sha256(masked(row, config.label_key).encode()).hexdigest()[:12]}"
    whole = {"id": row.get("id", f"line-{line.number}"), "messages": messages, "label": label, "template": template}
    return {**whole, "tools": row["tools"]} if "tools" in row else whole


def masked(row: Row, label_key: str | None) -> str:
    """What rows of one template share: the prompt with its numbers, and the values that its JSON answer took from it,
    replaced. For free text the words as they are: what is asked for in numbers is content there."""
    text = " ".join(words(prompt(row)))
    if label_key is None:
        return text
    for key, value in sorted((answer_json(row) or {}).items()):
        if key != label_key and isinstance(value, str) and (quoted := " ".join(words(value))):
            text = re.sub(rf"(?<!\w){re.escape(quoted)}(?!\w)", f"<{key}>", text)
    return re.sub(r"\d+", "#", text)


def clean(table: RowTable, config: DataConfig, first: NDArray[np.bool_] | None = None) -> Cleaned:
    """Drop what would be counted twice. `first`: which rows of the table count as earlier than all others. Raises
    DataError when nothing is left, or when a label of `config.labels` has no row."""
    rows, steps = np.arange(len(table)), []
    if first is not None:
        rows = np.argsort(~first, kind="stable")
    for drop in (_other_labels, _duplicates, _contradicting, _near_duplicates):
        result = drop(table, rows, config)
        if result is None:
            continue
        stays, step = result
        rows = rows[stays]
        steps.append(step(len(rows)))
    if not len(rows):
        raise DataError(
            "data",
            f"no row left of {len(table)}",
            "texts with one answer each",
            "look for one prompt answered in several ways",
        )
    return Cleaned(table, np.sort(rows), steps)


Drop = tuple[NDArray[np.bool_], Callable[[int], Step]]


def _step(table: RowTable, rows: I64, stays: NDArray[np.bool_], reason: str, key: str, twin: I64 | None = None) -> Drop:
    """Which rows stay, and how the step reads once it is known how many are left. `twin`: for each row the index (into
    `rows`) of the row for which it goes."""

    def step(left: int) -> Step:
        gone = np.flatnonzero(~stays)
        shown = []
        for i in gone[:EXAMPLES].tolist():
            other = None if twin is None else _line(table, int(rows[twin[i]]))
            shown.append(example(*_line(table, int(rows[i])), other))
        return Step(reason, len(gone), left, key, shown)

    return stays, step


def _line(table: RowTable, row: int) -> tuple[int, str]:
    whole = table.row(row)
    return int(table.number[row]), f"{prompt(whole)} -> {whole['messages'][-1]['content']}"


def _other_labels(table: RowTable, rows: I64, config: DataConfig) -> Drop | None:
    """Rows of labels that `config.labels` does not name; None where it is not set."""
    if config.labels is None:
        return None
    if absent := sorted(set(config.labels) - set(table.labels)):
        present = ", ".join(sorted(table.labels)[:20])
        raise DataError(
            "data.labels", f"no row has {absent[0]!r}", f"labels of the data: {present}", "correct the list"
        )
    wanted = [i for i, label in enumerate(table.labels) if label in config.labels]
    return _step(table, rows, np.isin(table.label[rows], wanted), "of other labels", "data.labels")


def _duplicates(table: RowTable, rows: I64, config: DataConfig) -> Drop:  # noqa: ARG001 (one signature)
    """Rows whose whole conversation an earlier row has."""
    _, first, which = np.unique(table.identity[rows], return_index=True, return_inverse=True)
    twin = first[which]
    return _step(table, rows, twin == np.arange(len(rows)), "duplicate", "", twin)


def _contradicting(table: RowTable, rows: I64, config: DataConfig) -> Drop | None:
    """Rows whose prompt some row answers otherwise. Free text may answer one prompt in several ways."""
    if config.label_key is None:
        return None
    _, first, which = np.unique(table.text[rows], return_index=True, return_inverse=True)
    differs = table.answer[rows] != table.answer[rows[first[which]]]
    in_conflict = np.bincount(which, differs, len(first)) > 0
    last_differing = np.zeros(len(first), np.int64)
    last_differing[which[differs]] = np.flatnonzero(differs)
    twin = np.where(differs, first[which], last_differing[which])
    return _step(table, rows, ~in_conflict[which], "contradicting", "data.label_key", twin)


def _near_duplicates(table: RowTable, rows: I64, config: DataConfig) -> Drop:
    """Rows near an earlier one that stays, with the same answer and system prompt."""
    classes = mixed(table.answer[rows]) ^ table.context[rows]
    pairs = near_pairs(shingles(table, rows), config.near_duplicate, classes)
    stays, twin = greedy(pairs, len(rows))
    reason = "near duplicate" if pairs.exact else "near duplicate (by MinHash)"
    return _step(table, rows, stays, reason, "data.near_duplicate", twin)


def count_names(steps: Sequence[Step]) -> dict[str, Any]:
    """The steps as flat counts: `{"near_duplicates": 12, ...}`."""
    names = {
        "read": "raw_rows",
        "invalid": "invalid_rows",
        "of other labels": "other_labels",
        "duplicate": "exact_duplicates",
        "contradicting": "conflicting_answers",
        "near duplicate": "near_duplicates",
        "near duplicate (by MinHash)": "near_duplicates",
    }
    return {names[step.reason]: step.rows for step in steps if step.reason in names}
