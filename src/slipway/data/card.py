"""The data card: what a reader must know before trusting figures measured on this data. Holds no path and no time of
day, so that equal data makes equal bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.data.rows import Row


def summarise(splits: Mapping[str, Sequence[Row]], lengths: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Flat figures for MLflow: rows, templates and tokens of each split, labels."""
    figures: dict[str, Any] = {"labels": len({row["label"] for rows in splits.values() for row in rows})}
    for name, rows in splits.items():
        figures[f"{name}_rows"] = len(rows)
        figures[f"{name}_templates"] = len({row["template"] for row in rows})
        figures[f"{name}_tokens"] = sum(lengths[name])
    every = sorted(n for values in lengths.values() for n in values)
    figures |= {"tokens_p50": quantile(every, 0.50), "tokens_p95": quantile(every, 0.95), "tokens_max": every[-1]}
    return figures


def quantile(ordered: Sequence[int], q: float) -> int:
    """The least value that at least a share q of `ordered` does not exceed."""
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def card(
    splits: Mapping[str, Sequence[Row]],
    lengths: Mapping[str, Sequence[int]],
    counts: Mapping[str, int],
    about: Mapping[str, str],
) -> str:
    """Markdown: origin, rows and token lengths of each split, what was removed, labels, and one row as an example."""
    example = splits["test"][0]["messages"]
    parts = [
        "# Data card",
        _table(("", ""), about.items()),
        "## Splits",
        "Whole templates (wordings) are held out: no template, text or near duplicate is in two splits.",
        _table(
            ("split", "rows", "templates", "tokens p50", "p95", "longest"),
            [_split_line(n, splits[n], lengths[n]) for n in splits],
        ),
        "## Cleaning",
        _table(("", "rows"), ((name.replace("_", " "), count) for name, count in counts.items())),
        "## Labels",
        _table(("label", *splits), _label_lines(splits)),
        "## Example",
        "\n".join(f"- {m['role']}: `{m['content']}`" for m in example),
    ]
    return "\n\n".join(parts) + "\n"


def _split_line(name: str, rows: Sequence[Row], lengths: Sequence[int]) -> tuple[object, ...]:
    ordered = sorted(lengths) or [0]
    return (
        name,
        len(rows),
        len({r["template"] for r in rows}),
        quantile(ordered, 0.50),
        quantile(ordered, 0.95),
        ordered[-1],
    )


def _label_lines(splits: Mapping[str, Sequence[Row]]) -> list[tuple[object, ...]]:
    of = {name: Counter(row["label"] for row in rows) for name, rows in splits.items()}
    return [(label, *(of[name][label] for name in splits)) for label in sorted(set().union(*of.values()))]


def _table(head: Sequence[str], lines: Any) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
