"""Which templates are held out, and how caps take rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from slipway.config.data import DataConfig
from slipway.data.holdout import TEST, TRAIN, VAL, assign, balance, shuffle_key
from slipway.data.rows import Row
from tests.support.tables import chat, every, table

CONFIG = DataConfig(
    test_fraction=0.2, val_fraction=0.1, per_label=30, val_per_label=3, test_per_label=4, label_key="intent"
)


def row(label: str, template: str, n: int) -> Row:
    text, answer = f"{label} {template} say {n} twice {n}", f'{{"intent":"{label}","n":{n}}}'
    return chat(text, answer, id=f"{label}-{template}-{n}", label=label, template=f"{label}-{template}")


def corpus(templates: dict[str, int], per_template: int = 6) -> list[Row]:
    return [
        row(label, f"t{t}", n) for label, count in templates.items() for t in range(count) for n in range(per_template)
    ]


def places(rows: list[Row], config: DataConfig = CONFIG, **changes: Any) -> dict[str, int]:
    made = table(rows, config)
    place = assign(made, every(made), config.model_copy(update=changes))
    return dict(zip(made.templates, place.tolist(), strict=True))


def test_shares_are_of_each_labels_templates() -> None:
    place = places(corpus({"a": 20, "b": 10, "c": 2, "d": 1}))
    of = {side: Counter(name[0] for name, at in place.items() if at == side) for side in (TRAIN, VAL, TEST)}
    assert of[TEST] == {"a": 4, "b": 2, "c": 1}
    assert of[VAL] == {"a": 2, "b": 1}
    assert of[TRAIN] == {"a": 14, "b": 7, "c": 1, "d": 1}


def test_a_new_label_moves_no_template_of_another() -> None:
    assert places(corpus({"a": 9})).items() <= places(corpus({"a": 9, "b": 9})).items()


def test_a_template_that_alone_shows_an_answer_shape_is_never_held_out() -> None:
    rows = corpus({"a": 12})
    rare = {"role": "assistant", "content": '{"intent":"a","area":"den"}'}
    for name in (f"a-t{t}" for t in range(12)):
        changed = [{**r, "messages": [*r["messages"][:-1], rare]} if r["template"] == name else r for r in rows]
        assert places(changed)[name] == TRAIN
    assert set(places(rows).values()) == {TRAIN, VAL, TEST}


def test_a_later_draw_holds_out_none_of_what_an_earlier_one_did() -> None:
    rows = corpus({"a": 20, "b": 10, "c": 2})
    draws = [places(rows, draw=draw) for draw in (1, 2, 3)]
    held = [{name for name, part in place.items() if part != TRAIN} for place in draws]
    assert draws[0] == places(rows)
    assert [len(names) for names in held] == [10, 10, 9]  # `c` has two templates, and both were held out by then
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_caps_take_from_templates_in_turn() -> None:
    made = table([row("a", "big", n) for n in range(50)] + [row("a", "small", n) for n in range(3)], CONFIG)
    taken = balance(made, every(made), 10)
    assert Counter(made.templates[made.template[i]] for i in taken) == {"a-big": 7, "a-small": 3}
    assert sorted(balance(made, every(made), None)) == list(range(53))
    assert balance(made, every(made)[:0], 10).tolist() == []


def test_the_order_depends_on_seed_and_id_only() -> None:
    rows = corpus({"a": 5})
    forward, backward = (table(some, CONFIG) for some in (rows, rows[::-1]))
    ids = [[made.row(i)["id"] for i in balance(made, every(made), None)] for made in (forward, backward)]
    assert ids[0] == ids[1] != sorted(ids[0])
    assert shuffle_key(1, "a") != shuffle_key(2, "a")
