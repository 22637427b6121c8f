"""Answers scored against expected ones: exact match of JSON, label accuracy, intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from slipway.data.rows import Row
from slipway.evaluation.statistics import wilson
from slipway.system.files import canonical


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


def score(row: Row, answer: str, label_key: str | None) -> dict[str, Any]:
    """One line of `items.jsonl`. Without a label key the answer as a whole is its class."""
    expected = row["messages"][-1]["content"]
    want, got = parse(expected), parse(answer)
    exact = correct = False
    if want is not None and got is not None:
        exact = canonical(got) == canonical(want)
        correct = exact if label_key is None else got.get(label_key, _ABSENT) == want.get(label_key)
    return {
        "id": row["id"],
        "label": row["label"],
        "template": row["template"],
        "expected": expected,
        "answer": answer,
        "parsed": got is not None,
        "exact_match": exact,
        "intent_correct": correct,
    }


_ABSENT = object()


def parse(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, None when it is anything else."""
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return doc if isinstance(doc, dict) else None


def summarize(items: list[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """metrics.json: shares with intervals, and counts that explain them."""
    n = len(items)

    def share(key: str) -> dict[str, float]:
        right = sum(item[key] for item in items)
        low, high = wilson(right, n, confidence)
        return {"value": right / n, "low": low, "high": high}

    return {
        "n": n,
        "exact_match": share("exact_match"),
        "intent_accuracy": share("intent_correct"),
        "unparsed": sum(not item["parsed"] for item in items),
        "cut_off": sum(item["finish"] == "length" for item in items),
        "retries": sum(item["retries"] for item in items),
        "confidence": confidence,
    }
