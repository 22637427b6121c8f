"""Raw rows -> prepared rows: every field filled in, one row per meaning.

In file order: exact duplicates go (same prompt, same answer), then texts that are answered in two ways (all of their
rows), then near duplicates (see `similar`), of which the first stays.
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
from slipway.data.rows import Line, Row, answer_json, answer_key, normalised, prompt, words
from slipway.errors import DataError


@dataclass(frozen=True)
class Cleaned:
    """Prepared rows, and how many of the raw rows went for which reason."""

    rows: list[Row]
    counts: dict[str, int]


def clean(lines: Sequence[Line], config: DataConfig) -> Cleaned:
    """Complete the rows and drop what would be counted twice. Raises DataError when nothing is left."""
    complete = [_complete(line, config) for line in lines]
    unique = list({(prompt(row), answer_key(row)): row for row in reversed(complete)}.values())[::-1]
    agreed = _agreed(unique) if config.label_key else unique
    kept = _apart(agreed, config.near_duplicate)
    if not kept:
        raise DataError(
            "data",
            f"no row left of {len(lines)}",
            "texts with one answer each",
            "look for one prompt answered in several ways",
        )
    return Cleaned(
        kept,
        {
            "raw_rows": len(lines),
            "exact_duplicates": len(complete) - len(unique),
            "conflicting_answers": len(unique) - len(agreed),
            "near_duplicates": len(agreed) - len(kept),
            "prepared_rows": len(kept),
        },
    )


def _complete(line: Line, config: DataConfig) -> Row:
    row = line.row
    messages = row["messages"]
    if config.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system}, *messages]
    label = (answer_json(row) or {})[config.label_key] if config.label_key else row.get("label", "all")
    template = row.get("template") or f"text-{hashlib.sha256(masked(row, config.label_key).encode()).hexdigest()[:12]}"
    return {"id": row.get("id", f"line-{line.number}"), "messages": messages, "label": label, "template": template}


def masked(row: Row, label_key: str | None) -> str:
    """The prompt with its numbers, and the values that its JSON answer took from it, replaced: rows that share it are one template."""
    text = " ".join(words(prompt(row)))
    for key, value in sorted((answer_json(row) or {}).items()):
        if key != label_key and (spoken := " ".join(words(_spoken(value)))):
            text = re.sub(rf"(?<!\w){re.escape(spoken)}(?!\w)", f"<{key}>", text)
    return re.sub(r"\d+", "#", text)


def _spoken(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _agreed(rows: Sequence[Row]) -> list[Row]:
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        answers[normalised(row)].add(answer_key(row))
    return [row for row in rows if len(answers[normalised(row)]) == 1]


def _apart(rows: Sequence[Row], threshold: float) -> list[Row]:
    index, kept = NearIndex(rows, threshold), []
    for row in rows:
        if index.find(row) is None:
            index.add(row)
            kept.append(row)
    return kept
