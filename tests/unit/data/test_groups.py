"""Where no row names a template, near duplicate prompts are one group."""

from __future__ import annotations

from slipway.config.data import DataConfig
from slipway.data.groups import regroup
from tests.support.tables import chat, every, table

FREE = DataConfig()


def names(rows: list[dict[str, object]], config: DataConfig = FREE) -> tuple[list[str], str]:
    made, say = regroup(table(rows, config), every(table(rows, config)), config)
    return [made.row(i)["template"] for i in range(len(made))], say


def test_near_prompts_are_one_group_whatever_their_answers() -> None:
    asked = ["how do I bake a loaf of rye bread", "how do I bake a loaf of rye bread, please", "why is the sky blue"]
    groups, say = names([chat(text, f"answer {i}") for i, text in enumerate(asked)])
    assert groups[0] == groups[1] != groups[2]
    assert say == "no row names a template: 2 groups made by similarity (data.near_duplicate)"
    assert all(name.startswith("group-") for name in groups)


def test_numbers_are_content_of_free_text_and_equal_wordings_are_one_group() -> None:
    groups, _ = names([chat("add 1 and 2", "3"), chat("add 20 and 30", "50"), chat("Add 1 and 2!", "three")])
    assert groups[0] == groups[2] != groups[1]


def test_a_group_has_the_same_name_whatever_the_order_of_rows() -> None:
    rows = [chat(f"{word} is a word that I would like explained", "x") for word in ("cat", "dog", "cow")]
    rows += [chat("cat is a word that I would like explained now", "y")]
    forward, backward = names(rows)[0], names(rows[::-1])[0][::-1]
    assert forward == backward


def test_templates_that_rows_name_are_left_alone() -> None:
    groups, say = names([chat("a b c d e", "x", template="t1"), chat("a b c d e f", "y")])
    assert groups[0] == "t1"
    assert groups[1].startswith("text-")
    assert say == "2 templates, named by 1 of 2 rows"


def test_labelled_answers_are_grouped_by_masked_text_where_that_groups() -> None:
    config = DataConfig(label_key="i")
    rows = [chat(f"set the lamp to {n} percent", f'{{"i":"Set","n":{n}}}') for n in (10, 20)]
    groups, say = names([*rows, chat("stop", '{"i":"Stop"}')], config)
    assert groups[0] == groups[1]
    assert "differ only in numbers" in say
    assert "similarity" in names([chat("go", '{"i":"Go"}'), chat("stop", '{"i":"Stop"}')], config)[1]
