"""Splits: what is held out together, what goes for resembling it, and the proof that nothing leaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slipway.config.data import DataConfig
from slipway.data.groups import regroup
from slipway.data.rows import Row
from slipway.data.split import NAMES, Splits, count_names, prove, split
from slipway.errors import DataError
from tests.support.tables import chat, every, table
from tests.unit.data.test_holdout import CONFIG, corpus, row


def splits_of(rows: list[Row], config: DataConfig = CONFIG) -> Splits:
    made = table(rows, config)
    return split(made, every(made), config)


def rows_of(splits: Splits) -> dict[str, list[Row]]:
    return {name: [splits.table.row(i) for i in splits[name]] for name in NAMES}


def test_labels_are_balanced_and_templates_share_evenly() -> None:
    splits = splits_of(corpus({"a": 20, "b": 10, "c": 2}))
    rows = rows_of(splits)
    assert Counter(r["label"] for r in rows["train"]) == {"a": 30, "b": 30, "c": 6}
    assert Counter(r["label"] for r in rows["test"]) == {"a": 4, "b": 4, "c": 4}
    of_template = Counter(r["template"] for r in rows["train"] if r["label"] == "a")
    assert set(of_template.values()) == {2, 3}  # 30 rows over 14 templates
    counts = count_names(splits)
    assert (counts["resembling_held_out"], counts["labels_without_test"]) == (0, 0)
    assert counts["over_per_label"] == 192 - sum(map(len, rows.values())) == splits.steps[1].rows
    assert splits.steps[1].left == sum(map(len, rows.values()))
    assert "line" in splits.steps[1].examples[0]


def test_without_caps_every_row_is_in_a_split() -> None:
    splits = splits_of(corpus({"all": 20}), DataConfig(test_fraction=0.2, val_fraction=0.1, label_key="intent"))
    assert [len(splits[name]) for name in NAMES] == [84, 12, 24]
    assert [(share.asked, share.got, share.why) for share in splits.shares] == [
        (0.7, 0.7, ""),
        (0.1, 0.1, ""),
        (0.2, 0.2, ""),
    ]


def test_shares_that_were_not_reached_say_why() -> None:
    shares = {share.split: share for share in splits_of(corpus({"a": 20, "d": 1})).shares}
    assert "data.test_per_label=4 leaves out rows" in shares["test"].why
    assert "1 of 2 labels have too few templates" in shares["test"].why
    assert "shares are of templates" in shares["train"].why


def test_the_same_seed_gives_the_same_splits_whatever_the_order_of_rows() -> None:
    rows = corpus({"a": 9, "b": 7})
    assert rows_of(splits_of(rows)) == rows_of(splits_of(rows[::-1]))
    other = CONFIG.model_copy(update={"seed": 18})
    assert rows_of(splits_of(rows)) != rows_of(splits_of(rows, other))


def test_a_draw_when_every_template_was_held_out_before_is_an_error() -> None:
    with pytest.raises(DataError, match=r"test split: empty: \d+ of \d+ rows \(\d+%\) are of one template"):
        splits_of(corpus({"a": 3}), CONFIG.model_copy(update={"draw": 9}))


def test_a_search_that_may_miss_rows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = corpus({"a": 9, "b": 7})
    assert splits_of(rows).steps[0].reason == "like a held-out row"
    monkeypatch.setattr("slipway.data.near_duplicates.MOST_CANDIDATES", -1)
    assert splits_of(rows).steps[0].reason == "like a held-out row (by MinHash)"


def test_a_template_with_two_labels_stands_in_one_split() -> None:
    rows = corpus({"a": 4, "b": 4})
    shared = {"template": "shared"}
    rows += [{**row("a", "x", n), **shared} for n in range(6)] + [{**row("b", "x", n), **shared} for n in range(6)]
    parts = rows_of(splits_of(rows))
    assert sum(any(r["template"] == "shared" for r in part) for part in parts.values()) == 1


@pytest.mark.parametrize("label_key", ["intent", None])
def test_training_rows_that_resemble_test_rows_are_dropped_counted_and_shown(label_key: str | None) -> None:
    config = CONFIG.model_copy(update={"label_key": label_key})
    rows = corpus({"a": 10}) if label_key else [chat(f"{w} " * 5 + "?", w, template=w) for w in "bcdfghjklm"]
    parts = rows_of(splits_of(rows, config))
    held, trained = parts["test"][0], parts["train"][0]
    twin = {**held, "id": "twin", "template": trained["template"], "label": trained["label"]}
    splits = splits_of([*rows, twin], config)
    assert "twin" not in {r["id"] for r in rows_of(splits)["train"]}
    assert splits.steps[0].rows == 1
    assert splits.steps[0].examples[0].startswith(f"line {len(rows) + 1}: ")


def leaking(*rows: Row, config: DataConfig = CONFIG) -> Splits:
    """The first row trains, the second is the test's; a third is like neither."""
    other = chat("nothing of the kind", '{"intent":"z"}', template="z")
    return Splits(table([*rows, other], config), np.array([0]), np.zeros(0, int), np.array([1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "a-t1"}, "leak between train and test: 1 shared templates, such as 'a-t1'"),
        ({"messages": row("b", "x", 9)["messages"]}, None),
        (
            {"messages": chat("a t1, SAY 1 twice 1!", '{"intent":"a","n":2}')["messages"]},
            "1 near duplicates, such as leaked of a-t1-1",
        ),
        (
            {"messages": chat("a t1 say 1 twice twice 1", '{"intent":"a","n":1}')["messages"]},
            "leaked of a-t1-1",
        ),
    ],
    ids=["template", "none", "wording", "near duplicate"],
)
def test_each_kind_of_leak_is_found(change: dict[str, Any], message: str | None) -> None:
    splits = leaking(row("a", "t1", 1), {**row("a", "t3", 3), "id": "leaked", **change})
    if message is None:
        prove(splits, CONFIG)
        return
    with pytest.raises(DataError, match=message):
        prove(splits, CONFIG)
    with pytest.raises(DataError, match="leak between train and val"):
        prove(replace(splits, val=splits.test, test=np.array([2])), CONFIG)


def test_free_text_leaks_whatever_its_answers() -> None:
    free = CONFIG.model_copy(update={"label_key": None})
    asked = "please write a short note to my landlord about the broken heating"
    splits = leaking(chat(asked, "one", template="t"), chat(f"{asked} again", "two", template="u"), config=free)
    with pytest.raises(DataError, match="1 near duplicates"):
        prove(splits, free)
    prove(splits, CONFIG)  # labelled answers that differ: `on` and `off` are near and no leak


def test_free_text_without_templates_is_split_without_a_leak() -> None:
    words = ["topic", "number", "of", "our", "long", "list", "today"]
    topics = [" ".join(f"{word}{i}" for word in words) for i in range(40)]
    rows = [chat(text, f"answer {i}") for i, text in enumerate(topics)]
    rows += [chat(f"{text} please", f"another {i}") for i, text in enumerate(topics[:14])]
    config = DataConfig()
    made = table(rows, config)
    grouped, _ = regroup(made, every(made), config)
    splits = split(grouped, every(grouped), config)
    assert sum(len(splits[name]) for name in NAMES) == 54, "near prompts are in one group, so none has to go"
    texts = {name: [r["messages"][0]["content"] for r in part] for name, part in rows_of(splits).items()}
    for held in ("val", "test"):
        assert not {t.removesuffix(" please") for t in texts["train"]} & {
            t.removesuffix(" please") for t in texts[held]
        }


def test_a_group_by_similarity_with_most_of_the_rows_trains() -> None:
    chain = [chat(f"please do tell me a funny w{i} joke about my dear old aunt", f"a{i}") for i in range(60)]
    alone = [chat(f"single{i} row{i} about{i} nothing{i}", f"b{i}") for i in range(20)]
    config = DataConfig()
    made = table([*chain, *alone], config)
    grouped, say = regroup(made, every(made), config)
    assert "21 groups" in say
    splits = split(grouped, every(grouped), config)
    assert len(splits.train) >= 60
