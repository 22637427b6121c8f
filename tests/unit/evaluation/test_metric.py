"""A declared metric over items: its entry in metrics.json, and the files of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import DataError
from slipway.evaluation.metric import Metric, aggregate, clusters_of, entries, metric_of, read_items, read_metrics
from slipway.evaluation.statistics import wilson
from slipway.store.artifacts import Evaluation
from slipway.store.store import Store, load

EXACT = Metric("exact", "exact match")


def items(values: list[float | None], name: str = "exact") -> list[dict[str, Any]]:
    return [{"id": f"t{i}", "template": f"p{i}", "metrics": {name: v}} for i, v in enumerate(values)]


def evaluation(tmp_path: Path, **files: str) -> Evaluation:
    store = Store(tmp_path)
    with store.create(Evaluation, "k", {}) as out:
        for name, text in files.items():
            (out / f"{name}.{'jsonl' if name == 'items' else 'json'}").write_text(text, encoding="utf-8", newline="\n")
    return load(Evaluation, store.dir("evaluation", "k"))


def test_an_entry_holds_declaration_value_and_interval() -> None:
    entry = aggregate(EXACT, items([1, 0, 1, None]), 0.95)
    low, high = wilson(2, 3, 0.95)
    assert (entry["value"], entry["low"], entry["high"], entry["n"]) == (pytest.approx(2 / 3), low, high, 3)
    assert metric_of(entry) == EXACT
    assert entries({"metrics": [entry]}) == {"exact": entry}


def test_what_no_item_has_is_null_and_an_unbounded_end_too() -> None:
    assert [aggregate(EXACT, items([None]), 0.95)[k] for k in ("value", "low", "high", "n")] == [None, None, None, 0]
    loss = aggregate(Metric("loss", "loss", "real", "lower", "nats"), items([1.5], "loss"), 0.95)
    assert (loss["value"], loss["low"], loss["high"]) == (1.5, None, None)
    json.dumps(loss, allow_nan=False)


def test_an_item_without_a_template_is_its_own_cluster() -> None:
    assert clusters_of([{"id": "a"}, {"id": "b", "template": "t"}]) == ["a", "t"]


def test_items_are_read_by_newlines_only(tmp_path: Path) -> None:
    """U+2028, NEL and a carriage return in a text are no ends of lines."""
    rows = [{"id": "a", "metrics": {}, "answer": "x\u2028y\u0085z"}, {"id": "b", "metrics": {}, "answer": ""}]
    made = evaluation(tmp_path, items="".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    assert read_items(made) == rows


def test_the_earlier_form_is_named(tmp_path: Path) -> None:
    old = evaluation(tmp_path, items='{"id": "a", "exact_match": true}\n', metrics='{"n": 1, "exact_match": {}}')
    for read in (read_items, read_metrics):
        with pytest.raises(DataError, match="made before metrics were declared"):
            read(old)


def test_the_interval_of_a_share_ends_at_its_bounds() -> None:
    metric = Metric("f1", "F1", kind="real")
    items = [{"id": str(i), "metrics": {"f1": value}} for i, value in enumerate([1.0] * 9 + [0.9])]
    entry = aggregate(metric, items, 0.95)
    assert 0.9 < entry["low"] < entry["value"] < entry["high"] == 1.0
