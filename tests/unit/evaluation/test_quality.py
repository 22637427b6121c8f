"""Test rows chosen, answers scored by several metrics, and the document of figures made of them."""

from __future__ import annotations

import json

import pytest

from slipway.data.rows import Row
from slipway.evaluation.json_metrics import exact
from slipway.evaluation.label_metrics import class_reader, macro_f1
from slipway.evaluation.quality import choose, score, score_whole, summarize
from slipway.evaluation.scorer import Example

SCORERS = [exact(), macro_f1(class_reader("intent", str.strip))]


def row(at: int, label: str) -> Row:
    """A row that expects `{"intent": label}`."""
    messages = [{"role": "user", "content": label}, {"role": "assistant", "content": json.dumps({"intent": label})}]
    return {"id": f"r{at}", "messages": messages, "label": label, "template": f"t{at}"}


def test_fewer_items_are_taken_evenly_over_labels() -> None:
    rows = [row(i, label) for i, label in enumerate("aaaabbc")]
    assert [r["id"] for r in choose(rows, 4)] == ["r0", "r1", "r4", "r6"]
    assert choose(rows, None) == choose(rows, 99) == rows


def test_an_item_keeps_the_whole_answer_and_a_value_of_every_metric() -> None:
    item = score(Example(row(0, "On"), "on it\u2028\ud800"), SCORERS)
    assert item["answer"] == "on it\u2028\ud800"
    assert item["metrics"] == {"json_exact": 0, "label_macro_f1": None}
    assert "calls" not in item
    assert score(Example(row(0, "On"), "", [{"name": "f"}]), SCORERS)["calls"] == [{"name": "f"}]


def test_figures_of_the_whole_set_are_filled_in_at_the_end() -> None:
    rows = [row(0, "On"), row(1, "Off")]
    items = [score(Example(r, r["messages"][-1]["content"]), SCORERS) for r in rows]
    score_whole(items, rows, SCORERS)
    assert [item["metrics"]["label_macro_f1"] for item in items] == [1, 1]


def test_metrics_have_intervals_and_counts_explain_them() -> None:
    loop = " ".join(["again and again"] * 40)
    answers = [('{"intent":"On"}', "stop"), ("", "stop"), (loop, "length")]
    items = [
        {**score(Example(row(0, "On"), answer), SCORERS), "id": f"r{i}", "template": f"t{i}"}
        | {"finish": finish, "tokens": 10 * i, "retries": 1}
        for i, (answer, finish) in enumerate(answers)
    ]
    metrics = summarize(items, SCORERS, 0.95)
    assert [entry["name"] for entry in metrics["metrics"]] == ["json_exact", "label_macro_f1"]
    assert metrics["metrics"][0]["value"] == pytest.approx(1 / 3)
    assert metrics["metrics"][0]["low"] == pytest.approx(0.0615, abs=1e-3)  # Wilson, 1 of 3
    assert (metrics["n"], metrics["finish"], metrics["answer_tokens"]) == (3, {"length": 1, "stop": 2}, 10)
    assert (metrics["empty"], metrics["retries"], metrics["long_answers"]) == (1, 3, 1)
    assert metrics["repeated_8grams"] > 0.9
