"""Answers scored against expected ones, and the metrics made of them."""

from __future__ import annotations

import json

import pytest

from slipway.data.rows import Row
from slipway.evaluation.quality import choose, parse, score, summarize


def row(at: int, label: str) -> Row:
    """A row that expects `{"intent": label}`."""
    messages = [{"role": "user", "content": label}, {"role": "assistant", "content": json.dumps({"intent": label})}]
    return {"id": f"r{at}", "messages": messages, "label": label, "template": f"t{at}"}


def test_the_order_of_keys_and_spaces_does_not_matter_types_do() -> None:
    want = {
        "id": "a",
        "label": "On",
        "template": "t",
        "messages": [{"role": "assistant", "content": '{"intent":"On","level":1}'}],
    }
    assert score(want, ' {"level": 1, "intent": "On"}\n', "intent")["exact_match"]
    for other in (
        '{"intent":"On","level":"1"}',
        '{"intent":"On","level":true}',
        '{"intent":"On"}',
        '{"intent":"On","level":1,"x":0}',
    ):
        scored = score(want, other, "intent")
        assert (scored["exact_match"], scored["intent_correct"]) == (False, True)
    assert not score(want, '{"level":1}', "intent")["intent_correct"]


@pytest.mark.parametrize("text", ["", "no", "[]", "1", '{"a":1} and more', '{"a":', "[" * 100_000])
def test_only_a_json_object_parses(text: str) -> None:
    assert parse(text) is None


def test_a_label_key_that_nothing_has_matches_nothing() -> None:
    scored = score(row(0, "On"), '{"intent":"On"}', "action")
    assert scored["exact_match"]
    assert not scored["intent_correct"]


def test_without_a_label_key_the_whole_answer_is_the_class() -> None:
    assert score(row(0, "On"), '{ "intent": "On" }', None)["intent_correct"]
    assert not score(row(0, "On"), '{"intent": "Off"}', None)["intent_correct"]


def test_fewer_items_are_taken_evenly_over_labels() -> None:
    rows = [row(i, label) for i, label in enumerate("aaaabbc")]
    assert [r["id"] for r in choose(rows, 4)] == ["r0", "r1", "r4", "r6"]
    assert choose(rows, None) == choose(rows, 99) == rows


def test_answers_cut_off_by_the_limit_are_counted() -> None:
    item = {**score(row(0, "On"), '{"intent":', "intent"), "finish": "length", "tokens": 64, "retries": 0}
    assert summarize([item], 0.95)["cut_off"] == 1


def test_shares_have_wilson_intervals_and_counts_explain_them() -> None:
    items = [
        {**score(row(0, "On"), answer, "intent"), "finish": "stop", "retries": 1}
        for answer in ('{"intent":"On"}', '{"intent":"On","x":1}', "no")
    ]
    metrics = summarize(items, 0.95)
    assert (metrics["n"], metrics["unparsed"], metrics["retries"], metrics["cut_off"]) == (3, 1, 3, 0)
    assert metrics["exact_match"]["value"] == pytest.approx(1 / 3)
    assert metrics["intent_accuracy"]["value"] == pytest.approx(2 / 3)
    assert metrics["exact_match"]["low"] == pytest.approx(0.0615, abs=1e-3)  # Wilson, 1 of 3
    assert metrics["exact_match"]["high"] == pytest.approx(0.7923, abs=1e-3)
