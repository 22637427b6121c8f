"""Where rows go: from those read to those of each split, each loss with its reason, examples and the key that changes
it.

A step is plain values, because it is shown in four places (terminal, Prefect, data card, `summary.json`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLES = 3
EXAMPLE_CHARS = 160


@dataclass(frozen=True)
class Step:
    """`rows` went for `reason` and `left` stayed; `key`: what in the config changes that."""

    reason: str
    rows: int
    left: int
    key: str
    examples: Sequence[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The step as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SplitShare:
    """Rows and tokens of one split, the share of templates asked for, the share of rows got, and why they differ."""

    split: str
    rows: int
    asked: float
    got: float
    why: str
    tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The share as JSON values."""
        return asdict(self)


def example(line: int, text: str, twin: tuple[int, str] | None = None) -> str:
    """`line 7: lamp on` or `line 7: lamp on (line 3: Lamp on!)`, of bounded length."""
    own = f"line {line}: {_cut(text)}"
    return own if twin is None else f"{own} (line {twin[0]}: {_cut(twin[1])})"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= EXAMPLE_CHARS else f"{text[: EXAMPLE_CHARS // 2]} ... {text[-EXAMPLE_CHARS // 2 :]}"


def funnel_rows(steps: Sequence[Mapping[str, Any]], shares: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The funnel as rows of a table, its steps first and then its splits; every row has the same columns."""
    lines = [
        {"": step["reason"], "rows": step["rows"], "left": step["left"], "changed by": step["key"],
         "note": "; ".join(step["examples"][:1])}
        for step in steps
    ]  # fmt: skip
    for share in shares:
        tokens = "" if share["tokens"] is None else f"{share['tokens']:,} tokens, "
        asked = f"{tokens}asked {share['asked']:.0%}, got {share['got']:.1%}"
        note = f"{asked}: {share['why']}" if share["why"] else asked
        keys = {"train": "", "val": "data.val_fraction", "test": "data.test_fraction"}
        lines.append(
            {"": share["split"], "rows": share["rows"], "left": "", "changed by": keys[share["split"]], "note": note}
        )
    return lines


def sentence(steps: Sequence[Mapping[str, Any]], shares: Sequence[Mapping[str, Any]]) -> str:
    """The funnel in one line: `4,311 read, 12 near duplicate (data.near_duplicate), train 2,000, val 70, test 200`."""
    parts = [
        f"{step['rows']:,} {step['reason']}" + (f" ({step['key']})" if step["key"] and i else "")
        for i, step in enumerate(steps)
        if step["rows"] or not i
    ]
    return ", ".join([*parts, *(f"{share['split']} {share['rows']:,}" for share in shares)])


def lines_of_text(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows of `funnel_rows` as lines for a terminal, counts aligned."""
    texts = []
    for row in rows:
        key = f" ({row['changed by']})" if row["changed by"] else ""
        note = f": {row['note']}" if row["note"] else ""
        texts.append(f"{row['rows']:>11,} {row['']}{key}{note}")
    return texts
