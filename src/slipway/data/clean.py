"""Raw rows -> prepared rows: every field filled in, one row per meaning.

In file order: exact duplicates go (same prompt, same answer), then texts that are answered in two ways (all of their
rows), then near duplicates (see `near_duplicates`), of which the first stays.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway.config.data import DataConfig
from slipway.data.near_duplicates import NearIndex
from slipway.data.rows import NumberedRow, Row, answer_json, answer_key, normalised, prompt, words
from slipway.errors import DataError


@dataclass(frozen=True)
class Cleaned:
    """Prepared rows, and how many of the raw rows went for which reason."""

    rows: list[Row]
    counts: dict[str, int]


def clean(lines: Sequence[NumberedRow], config: DataConfig) -> Cleaned:
    """Complete the rows and drop what would be counted twice; with `config.labels`, rows of other labels first.

    Raises DataError when nothing is left, or when a label of `config.labels` has no row.
    """
    complete = _of_labels([_complete(line, config) for line in lines], config.labels)
    unique = list({(prompt(row), answer_key(row)): row for row in reversed(complete)}.values())[::-1]
    agreed = _agreed(unique) if config.label_key else unique
    distinct = _apart(agreed, config.near_duplicate)
    if not distinct:
        raise DataError(
            "data",
            f"no row left of {len(lines)}",
            "texts with one answer each",
            "look for one prompt answered in several ways",
        )
    return Cleaned(
        distinct,
        {
            "raw_rows": len(lines),
            **({} if config.labels is None else {"other_labels": len(lines) - len(complete)}),
            "exact_duplicates": len(complete) - len(unique),
            "conflicting_answers": len(unique) - len(agreed),
            "near_duplicates": len(agreed) - len(distinct),
            "prepared_rows": len(distinct),
        },
    )


def _complete(line: NumberedRow, config: DataConfig) -> Row:
    row = line.row
    messages = row["messages"]
    if config.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system}, *messages]
    label = (answer_json(row) or {})[config.label_key] if config.label_key else row.get("label", "all")
    template = row.get("template") or f"text-{hashlib.sha256(masked(row, config.label_key).encode()).hexdigest()[:12]}"
    return {"id": row.get("id", f"line-{line.number}"), "messages": messages, "label": label, "template": template}


def _of_labels(rows: Sequence[Row], labels: Sequence[str] | None) -> list[Row]:
    """The rows of these labels; all of them for None."""
    if labels is None:
        return list(rows)
    if absent := sorted(set(labels) - {row["label"] for row in rows}):
        present = ", ".join(sorted({row["label"] for row in rows})[:20])
        raise DataError(
            "data.labels", f"no row has {absent[0]!r}", f"labels of the data: {present}", "correct the list"
        )
    return [row for row in rows if row["label"] in labels]


def masked(row: Row, label_key: str | None) -> str:
    """The prompt with its numbers, and the values that its JSON answer took from it, replaced: rows that share it are
    one template."""
    text = " ".join(words(prompt(row)))
    for key, value in sorted((answer_json(row) or {}).items()):
        if key != label_key and (quoted := " ".join(words(_text_of(value)))):
            text = re.sub(rf"(?<!\w){re.escape(quoted)}(?!\w)", f"<{key}>", text)
    return re.sub(r"\d+", "#", text)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _agreed(rows: Sequence[Row]) -> list[Row]:
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        answers[normalised(row)].add(answer_key(row))
    return [row for row in rows if len(answers[normalised(row)]) == 1]


def _apart(rows: Sequence[Row], threshold: float) -> list[Row]:
    index, distinct = NearIndex(rows, threshold), []
    for row in rows:
        if index.find(row) is None:
            index.add(row)
            distinct.append(row)
    return distinct
