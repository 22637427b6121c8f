"""Answers scored by the metrics of a task: one line of `items.jsonl` each, and the document `metrics.json`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from slipway.data.rows import Row
from slipway.evaluation.metric import Item, aggregate
from slipway.evaluation.repetition import repeated_share
from slipway.evaluation.scorer import Example, Scorer


def choose(rows: list[Row], most: int | None) -> list[Row]:
    """At most `most` rows, evenly over labels (the first of each, then the second of each ...), in their own order."""
    if most is None or most >= len(rows):
        return rows
    rank: dict[str, int] = defaultdict(int)
    turns = []
    for at, row in enumerate(rows):
        turns.append((rank[row["label"]], at))
        rank[row["label"]] += 1
    return [rows[at] for _, at in sorted(sorted(turns)[:most], key=lambda turn: turn[1])]


def score(example: Example, scorers: Sequence[Scorer]) -> Item:
    """One line of `items.jsonl`, without what the engine says of the answer."""
    row = example.row
    item: Item = {
        "id": row["id"],
        "label": row["label"],
        "template": row["template"],
        "expected": example.expected,
        "answer": example.answer,
        "metrics": {scorer.metric.name: scorer.score(example) for scorer in scorers},
    }
    return {**item, "calls": list(example.calls)} if example.calls else item


def score_whole(items: Sequence[Item], rows: Sequence[Row], scorers: Sequence[Scorer]) -> None:
    """Fill in, in place, the values that need all items of the test set. `rows`: theirs, in the same order."""
    examples = [Example(row, item["answer"], item.get("calls", ())) for item, row in zip(items, rows, strict=True)]
    for scorer in scorers:
        if scorer.score_all is not None:
            for item, value in zip(items, scorer.score_all(examples), strict=True):
                item["metrics"][scorer.metric.name] = value


def summarize(items: Sequence[Item], scorers: Sequence[Scorer], confidence: float) -> dict[str, Any]:
    """`metrics.json`: every metric with its interval, and what explains them: how answers ended, their tokens (mean),
    how many are empty, and repetition in the long ones (mean share of repeated 8-grams, null without a long answer)."""
    repeated = [share for item in items if (share := repeated_share(item["answer"])) is not None]
    return {
        "n": len(items),
        "metrics": [aggregate(scorer.metric, items, confidence) for scorer in scorers],
        "confidence": confidence,
        "finish": dict(sorted(Counter(str(item["finish"]) for item in items).items())),
        "answer_tokens": sum(item["tokens"] for item in items) / len(items),
        "empty": sum(not item["answer"].strip() and not item.get("calls") for item in items),
        "long_answers": len(repeated),
        "repeated_8grams": sum(repeated) / len(repeated) if repeated else None,
        "retries": sum(item["retries"] for item in items),
    }


def without_value(metrics: dict[str, Any]) -> list[str]:
    """A sentence for every metric of `metrics.json` that has no value on some of its items."""
    why = "it does not apply to the others, or its judge gave no verdict on them (evaluate.judge.max_tokens, .prompt)"
    return [
        f"{entry['name']} has a value on {entry['n']} of {metrics['n']} items: {why}"
        for entry in metrics["metrics"]
        if entry["n"] < metrics["n"]
    ]
