from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from slipway.config.data import DataConfig
from slipway.data.rows import Row
from slipway.data.split import Splits, assign, balance, prove, split
from slipway.errors import DataError


def row(label: str, template: str, n: int, text: str | None = None) -> Row:
    content = text or f"{label} {template} say {n} twice {n}"
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": f'{{"intent":"{label}","n":{n}}}'},
    ]
    return {"id": f"{label}-{template}-{n}", "messages": messages, "label": label, "template": f"{label}-{template}"}


def corpus(templates: dict[str, int], per_template: int = 6) -> list[Row]:
    return [
        row(label, f"t{t}", n) for label, count in templates.items() for t in range(count) for n in range(per_template)
    ]


CONFIG = DataConfig(test_fraction=0.2, val_fraction=0.1, per_label=30, val_per_label=3, test_per_label=4)


def test_every_label_that_can_has_test_templates() -> None:
    splits = split(corpus({"a": 20, "b": 10, "c": 2, "d": 1}), CONFIG)
    templates = {
        name: Counter(t.split("-")[0] for t in {r["template"] for r in splits[name]})
        for name in ("train", "val", "test")
    }
    assert templates["test"] == {"a": 4, "b": 2, "c": 1}
    assert templates["val"] == {"a": 2, "b": 1}
    assert templates["train"] == {"a": 14, "b": 7, "c": 1, "d": 1}
    assert splits.counts == {
        "resembling_held_out": 0,
        "over_per_label": 198 - 72 - 6 - 12,  # 33 templates of 6 rows; train 30 + 30 + 6 + 6
        "templates": 33,
        "held_out_templates": 7,
        "labels_without_test": 1,
    }


def test_labels_are_balanced_and_templates_share_evenly() -> None:
    splits = split(corpus({"a": 20, "b": 10, "c": 2}), CONFIG)
    assert Counter(r["label"] for r in splits.train) == {"a": 30, "b": 30, "c": 6}
    assert Counter(r["label"] for r in splits.test) == {"a": 4, "b": 4, "c": 4}
    of_template = Counter(r["template"] for r in splits.train if r["label"] == "a")
    assert set(of_template.values()) == {2, 3}  # 30 rows over 14 templates


def test_the_same_seed_gives_the_same_splits_whatever_the_order_of_rows() -> None:
    rows = corpus({"a": 9, "b": 7})
    assert split(rows, CONFIG) == split(rows[::-1], CONFIG)
    assert split(rows, CONFIG).test != split(rows, CONFIG.model_copy(update={"seed": 18})).test


def test_a_new_label_moves_no_template_of_another() -> None:
    before = assign(corpus({"a": 9}), CONFIG)
    after = assign(corpus({"a": 9, "b": 9}), CONFIG)
    assert before.items() <= after.items()


def test_a_template_that_alone_shows_an_answer_shape_is_never_held_out() -> None:
    rows = corpus({"a": 12})
    rare = {"role": "assistant", "content": '{"intent":"a","area":"den"}'}
    for name in (f"a-t{t}" for t in range(12)):
        changed = [{**r, "messages": [*r["messages"][:-1], rare]} if r["template"] == name else r for r in rows]
        assert assign(changed, CONFIG)[name] == "train"
    assert {assign(rows, CONFIG)[f"a-t{t}"] for t in range(12)} == {"train", "val", "test"}


def test_a_later_draw_holds_out_none_of_what_an_earlier_one_did() -> None:
    rows = corpus({"a": 20, "b": 10, "c": 2})
    draws = [assign(rows, CONFIG.model_copy(update={"draw": draw})) for draw in (1, 2, 3)]
    held = [{name for name, part in place.items() if part != "train"} for place in draws]
    assert draws[0] == assign(rows, CONFIG)
    assert [len(names) for names in held] == [10, 10, 9]  # `c` has two templates, and both were held out by then
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_a_draw_when_every_template_was_held_out_before_is_an_error() -> None:
    with pytest.raises(DataError, match="test split: empty"):
        split(corpus({"a": 3}), CONFIG.model_copy(update={"draw": 9}))


def test_a_template_with_two_labels_stands_in_one_split() -> None:
    rows = corpus({"a": 4, "b": 4})
    shared = {"template": "shared"}
    rows += [{**row("a", "x", n), **shared} for n in range(6)] + [{**row("b", "x", n), **shared} for n in range(6)]
    splits = split(rows, CONFIG)
    homes = [name for name in ("train", "val", "test") if any(r["template"] == "shared" for r in splits[name])]
    assert len(homes) == 1


def test_training_rows_that_resemble_test_rows_are_dropped_and_counted() -> None:
    rows = corpus({"a": 10})
    held = split(rows, CONFIG).test[0]
    place = assign(rows, CONFIG)
    twin = {**held, "id": "twin", "template": next(t for t in place if place[t] == "train")}
    splits = split([*rows, twin], CONFIG)
    assert "twin" not in {r["id"] for r in splits.train}
    assert splits.counts["resembling_held_out"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "a-t1"}, "leak between train and test: 1 shared templates, such as 'a-t1'"),
        (
            {"messages": row("b", "x", 9, "a t1 say 1 twice 1")["messages"]},
            "leak between train and test: 1 shared texts",
        ),
        (
            {"messages": row("a", "x", 1, "a t1 say 1 twice twice 1")["messages"]},
            "leaked is a near duplicate of a-t1-1",
        ),
    ],
    ids=["template", "text", "near duplicate"],
)
def test_each_kind_of_leak_is_found(change: dict[str, Any], message: str) -> None:
    sound = Splits([row("a", "t1", 1)], [], [row("a", "t2", 2)], {})
    prove(sound, 0.7)
    leaked = {**row("a", "t3", 3), "id": "leaked", **change}
    with pytest.raises(DataError, match=message):
        prove(replace(sound, test=[leaked]), 0.7)
    with pytest.raises(DataError, match="leak between train and val"):
        prove(replace(sound, val=[leaked]), 0.7)


def test_without_caps_every_row_is_in_a_split() -> None:
    splits = split(corpus({"all": 20}), DataConfig(test_fraction=0.2, val_fraction=0.1))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (84, 12, 24)
    assert splits.counts["over_per_label"] == 0


def test_balance_takes_from_templates_in_turn() -> None:
    rows = [row("a", "big", n) for n in range(50)] + [row("a", "small", n) for n in range(3)]
    assert Counter(r["template"] for r in balance(rows, 10, 1)) == {"a-big": 7, "a-small": 3}
