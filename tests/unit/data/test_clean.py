"""What cleaning fills in, what it drops, and how it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.config.data import DataConfig
from slipway.data.clean import Cleaned, clean, complete, count_names, masked
from slipway.data.rows import NumberedRow, Row
from slipway.errors import DataError
from tests.support.tables import chat, table

LABELLED = DataConfig(label_key="intent")
ON, OFF = {"intent": "On"}, {"intent": "Off"}


def asked(text: str, answer: dict[str, Any], **more: Any) -> Row:
    return chat(text, json.dumps(answer), **more)


def cleaned(rows: list[Row], config: DataConfig = LABELLED) -> Cleaned:
    return clean(table(rows, config), config)


def lines(result: Cleaned) -> list[int]:
    return [int(result.table.number[i]) for i in result.rows]


def test_rows_are_completed() -> None:
    config = DataConfig(system="Be brief.", label_key="intent")
    row = complete(NumberedRow(7, asked("lamp on", ON, tools=[{"function": {"name": "f"}}])), config)
    assert (row["id"], row["label"], row["template"][:5]) == ("line-7", "On", "text-")
    assert row["messages"][0] == {"role": "system", "content": "Be brief."}
    assert list(row) == ["id", "messages", "label", "template", "tools"]


def test_a_row_keeps_its_own_system_prompt_and_names() -> None:
    given = chat("lamp on", '{"intent":"On"}', system="Mine.", id="mine", template="t1")
    row = complete(NumberedRow(1, given), DataConfig(system="Be brief.", label_key="intent"))
    assert (row["id"], row["template"], row["messages"][0]["content"]) == ("mine", "t1", "Mine.")
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]


def test_each_kind_of_duplicate_is_removed_counted_and_shown() -> None:
    result = cleaned(
        [
            asked("turn the lamp in the hall on", ON),
            asked("turn the lamp in the hall on", ON),  # exact
            asked("Turn the lamp in the hall on!", ON),  # near: same words
            asked("turn the lamp in the hall off", OFF),  # another answer
            asked("lamp", ON),
            asked("Lamp", OFF),  # the text of line 5, answered otherwise: both go
        ]
    )
    assert lines(result) == [1, 4]
    steps = {step.reason: step for step in result.steps}
    assert {reason: step.rows for reason, step in steps.items()} == {
        "duplicate": 1,
        "contradicting": 2,
        "near duplicate": 1,
    }
    assert [step.left for step in result.steps] == [5, 3, 2]
    assert "line 2: turn the lamp" in steps["duplicate"].examples[0]
    assert "line 5: lamp" in steps["contradicting"].examples[0]
    assert "(line 6: Lamp" in steps["contradicting"].examples[0]
    assert "line 3" in steps["near duplicate"].examples[0]
    assert "(line 1:" in steps["near duplicate"].examples[0]
    assert count_names(result.steps) == {"exact_duplicates": 1, "conflicting_answers": 2, "near_duplicates": 1}


@pytest.mark.parametrize(("a", "b"), [("C++", "C#"), ("is x<y", "is x>y"), ("दिन", "दीन"), ("so 😀", "so 😢")])
def test_symbols_and_marks_make_prompts_differ(a: str, b: str) -> None:
    assert lines(cleaned([asked(a, ON), asked(b, OFF)])) == [1, 2]
    assert lines(cleaned([asked(a, ON), asked(b, ON)])) == [1, 2]


def test_a_system_prompt_or_an_earlier_turn_makes_a_row_another() -> None:
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = [
        chat("on", system="a"),
        chat("on", system="b"),
        chat("on"),
        {"messages": [*earlier, *chat("on")["messages"]]},
    ]
    assert lines(cleaned(rows, DataConfig())) == [1, 2, 3, 4]


def test_rows_under_one_long_instruction_all_stay() -> None:
    text = "Read the review below and say in one word whether its author liked the product: review {} about {}"
    rows = [chat(text.format(f"n{i}", f"thing{i}"), "yes") for i in range(200)]
    assert len(cleaned(rows, DataConfig()).rows) == 200


def test_free_text_may_answer_one_prompt_in_two_ways() -> None:
    assert lines(cleaned([chat("hello", "a"), chat("hello", "b")], DataConfig())) == [1, 2]


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="no row left of 2"):
        cleaned([asked("lamp", ON), asked("lamp", OFF)])


def test_texts_that_differ_in_values_only_are_one_template() -> None:
    a = asked("Set the living room lamp to 20 %", {"intent": "Set", "area": "living room", "value": 20})
    b = asked("set the office lamp to 35", {"intent": "Set", "area": "office", "value": 35})
    c = asked("set the office fan to 35", {"intent": "Set", "area": "office", "value": 35})
    assert masked(a, "intent") == "set the <area> lamp to #" == masked(b, "intent")
    assert masked(c, "intent") != masked(b, "intent")


def test_rows_of_other_labels_are_left_out_first_and_counted() -> None:
    rows = [asked("on please", ON), asked("off please", OFF)]
    result = cleaned(rows, DataConfig(labels=["Off"], label_key="intent"))
    assert lines(result) == [2]
    assert (result.steps[0].reason, result.steps[0].rows, result.steps[0].key) == ("of other labels", 1, "data.labels")
    assert "other_labels" not in count_names(cleaned(rows).steps)


def test_a_label_that_no_row_has_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.labels: no row has 'Dim'; expected labels of the data: On"):
        cleaned([asked("on please", ON)], DataConfig(labels=["On", "Dim"], label_key="intent"))
