import json
from typing import Any

import pytest

from slipway.config.data import DataConfig
from slipway.data.clean import clean, masked
from slipway.data.rows import NumberedRow
from slipway.errors import DataError


def line(number: int, text: str, answer: dict[str, Any], **more: Any) -> NumberedRow:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": json.dumps(answer)}]
    return NumberedRow(number, {"messages": messages, **more})


def test_rows_are_completed() -> None:
    [row] = clean([line(7, "lamp on", {"intent": "On"})], DataConfig(system="Be brief.", label_key="intent")).rows
    assert row["id"] == "line-7"
    assert row["label"] == "On"
    assert row["template"].startswith("text-")
    assert row["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_row_keeps_its_own_system_prompt_and_names() -> None:
    given = line(1, "lamp on", {"intent": "On"}, id="mine", template="t1")
    given.row["messages"].insert(0, {"role": "system", "content": "Mine."})
    [row] = clean([given], DataConfig(system="Be brief.", label_key="intent")).rows
    assert (row["id"], row["template"], row["messages"][0]["content"]) == ("mine", "t1", "Mine.")
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]


def test_each_kind_of_duplicate_is_removed_and_counted() -> None:
    on, off = {"intent": "On"}, {"intent": "Off"}
    cleaned = clean(
        [
            line(1, "turn the lamp in the hall on", on),
            line(2, "turn the lamp in the hall on", on),  # exact
            line(3, "Turn the lamp in the hall on!", on),  # near: same words
            line(4, "turn the lamp in the hall off", off),  # another answer
            line(5, "lamp", on),
            line(6, "Lamp", off),  # the text of line 5, answered otherwise: both go
        ],
        DataConfig(label_key="intent"),
    )
    assert [row["id"] for row in cleaned.rows] == ["line-1", "line-4"]
    expected = {
        "raw_rows": 6,
        "exact_duplicates": 1,
        "conflicting_answers": 2,
        "near_duplicates": 1,
        "prepared_rows": 2,
    }
    assert cleaned.counts == expected


def test_free_text_may_answer_one_prompt_in_two_ways() -> None:
    rows = [line(1, "hello", {"a": 1}), line(2, "hello", {"a": 2})]
    assert len(clean(rows, DataConfig(label_key=None)).rows) == 2


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="no row left of 2"):
        clean([line(1, "lamp", {"intent": "On"}), line(2, "lamp", {"intent": "Off"})], DataConfig(label_key="intent"))


def test_texts_that_differ_in_values_only_are_one_template() -> None:
    a = line(1, "Set the living room lamp to 20 %", {"intent": "Set", "area": "living room", "value": 20}).row
    b = line(2, "set the office lamp to 35", {"intent": "Set", "area": "office", "value": 35}).row
    c = line(3, "set the office fan to 35", {"intent": "Set", "area": "office", "value": 35}).row
    assert masked(a, "intent") == "set the <area> lamp to #" == masked(b, "intent")
    assert masked(c, "intent") != masked(b, "intent")


def test_rows_of_other_labels_are_left_out_first_and_counted():
    rows = [line(1, "on please", {"intent": "On"}), line(2, "off please", {"intent": "Off"})]
    cleaned = clean(rows, DataConfig(label_key="intent", labels=["Off"]))
    assert [row["label"] for row in cleaned.rows] == ["Off"]
    assert (cleaned.counts["raw_rows"], cleaned.counts["other_labels"]) == (2, 1)
    assert "other_labels" not in clean(rows, DataConfig(label_key="intent")).counts


def test_a_label_that_no_row_has_is_refused():
    with pytest.raises(DataError, match=r"data\.labels: no row has 'Dim'; expected labels of the data: On"):
        clean([line(1, "on please", {"intent": "On"})], DataConfig(label_key="intent", labels=["On", "Dim"]))
