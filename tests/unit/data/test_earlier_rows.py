"""Rows that an earlier version of the data had keep their side: the champion's test rows stay test rows, nothing of
them trains, and nothing that it learnt is tested."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from slipway.config.data import DataConfig, EarlierData
from slipway.data.clean import clean
from slipway.data.earlier_rows import TEST_ROWS, EarlierRows, mark_tests, read_earlier, sentence
from slipway.data.groups import regroup
from slipway.data.holdout import NEW, TEST, TRAIN, VAL
from slipway.data.row_table import asked
from slipway.data.rows import Row
from slipway.data.split import LEARNT, NAMES, Splits, prove, split
from slipway.errors import StateError
from slipway.store.artifacts import Dataset
from slipway.store.store import Store, load
from tests.support.tables import chat, every, table
from tests.unit.data.test_holdout import CONFIG, corpus

FILES = {name: f"{name}.jsonl" for name in NAMES}


def first_split(rows: list[Row], config: DataConfig = CONFIG) -> Splits:
    made = table(rows, config)
    return split(made, every(made), config)


def rows_of(splits: Splits) -> dict[str, list[Row]]:
    return {name: [splits.table.row(i) for i in splits[name].tolist()] for name in NAMES}


def known(splits: Splits) -> EarlierRows:
    """What a later version knows of these splits."""
    sides = {TRAIN: splits.train, VAL: splits.val, TEST: splits.test}
    return EarlierRows({side: np.unique(splits.table.text[rows]) for side, rows in sides.items()}, "d" * 64)


def next_split(rows: list[Row], earlier: EarlierRows, config: DataConfig = CONFIG) -> Splits:
    """The splits of a later version, by all steps that a file goes through."""
    made = table(rows, config)
    cleaned = clean(made, config, earlier.sides(made) == TEST)
    made, _ = regroup(made, cleaned.rows, config)
    return split(made, cleaned.rows, config, earlier.sides(made))


def texts(rows: list[Row]) -> set[int]:
    return {asked(row) for row in rows}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_new_version_brings_the_test_rows_of_the_old_one_stay(seed: int) -> None:
    """Rows removed, added, put in another order under other ids, some with corrected answers; another seed, other
    shares and caps."""
    draw = random.Random(seed)
    old = corpus({"a": 20, "b": 9, "c": 3})
    before = first_split(old)
    later = [row for row in old if draw.random() < 0.9]
    later += corpus({"a": 24, "b": 14, "d": 6}, per_template=8)
    draw.shuffle(later)
    later = [{**row, "id": f"line-{n}"} for n, row in enumerate(later)]
    fraction = draw.choice([0.1, 0.2, 0.4])
    config = CONFIG.model_copy(update={"seed": seed, "test_fraction": fraction, "test_per_label": draw.choice([1, 9])})
    earlier = known(before)
    now = next_split(later, earlier, config)
    tested, learnt = texts(rows_of(before)["test"]), texts([*rows_of(before)["train"], *rows_of(before)["val"]])
    parts = {name: texts(rows) for name, rows in rows_of(now).items()}
    assert tested & texts(later) <= parts["test"]
    assert not tested & (parts["train"] | parts["val"]) and not learnt & parts["test"]
    prove(now, config)


def test_new_rows_of_a_test_template_are_tested_and_a_label_gets_new_templates_up_to_its_share(tmp_path: Path) -> None:
    before = first_split(corpus({"a": 10}), DataConfig(test_fraction=0.2, val_fraction=0, label_key="intent"))
    config = DataConfig(test_fraction=0.2, val_fraction=0, label_key="intent")
    more = next_split(corpus({"a": 10}, per_template=8), known(before), config)
    old_tests = {row["template"] for row in rows_of(before)["test"]}
    assert {row["template"] for row in rows_of(more)["test"]} == old_tests, "two of ten are the share"
    grown = next_split(corpus({"a": 20}, per_template=8), known(before), config)
    templates = {row["template"] for row in rows_of(grown)["test"]}
    assert old_tests < templates and len(templates) == 4
    assert not {row["template"] for row in rows_of(before)["train"]} & templates
    counts = mark_tests(grown, known(before), tmp_path)
    assert counts == {"test_rows_fixed": 12, "test_rows_new": 20, "test_rows_gone": 0}
    document = json.loads((tmp_path / TEST_ROWS).read_text())
    new = {row["id"] for row in rows_of(grown)["test"]} - {row["id"] for row in rows_of(before)["test"]}
    assert set(document["new"]) == new and document["since"] == "d" * 64
    assert sentence(counts).startswith("test rows: 12 of the champion's stay, 20 are new, 0 of")


def test_what_was_learnt_is_not_tested_also_where_its_template_is() -> None:
    """Somebody gave two templates one name: the one was tested, the other learnt."""
    rows, config = corpus({"a": 10}), DataConfig(test_fraction=0.2, val_fraction=0.1, label_key="intent")
    before = first_split(rows, config)
    held, learnt = (rows_of(before)[name][0]["template"] for name in ("test", "train"))
    joined = [{**row, "template": held} if row["template"] == learnt else row for row in rows]
    now = next_split(joined, known(before), config)
    assert not texts(rows_of(before)["train"]) & texts(rows_of(now)["test"])
    assert texts(rows_of(before)["test"]) <= texts(rows_of(now)["test"])
    step = next(one for one in now.steps if one.reason == LEARNT)
    assert step.rows == 6 and "line" in step.examples[0]
    assert sum(one.rows for one in now.steps) == len(rows) - sum(len(now[name]) for name in NAMES)


def test_of_two_near_duplicates_the_test_row_stays_wherever_it_stands() -> None:
    config = DataConfig(test_fraction=0.2, val_fraction=0, label_key="intent")
    rows = corpus({"a": 10})
    before = first_split(rows, config)
    test = rows_of(before)["test"][0]
    words = str(test["messages"][0]["content"])
    near = {**test, "id": "near", "template": "new", "messages": [*chat(f"{words}!")["messages"]]}
    near["messages"][1] = test["messages"][1]
    now = next_split([near, *rows], known(before), config)
    assert asked(test) in texts(rows_of(now)["test"])
    assert asked(near) not in {text for name in NAMES for text in texts(rows_of(now)[name])}


def test_rows_are_known_by_what_they_ask_not_by_answer_id_or_todays_system_prompt(tmp_path: Path) -> None:
    """The older data stood under a system prompt of data.system; one row had its own."""
    old = [chat("lamp on", "yes", "Be brief.", id="1"), chat("fan on", "yes", "Own words.", id="2")]
    folder = written(tmp_path, "a", {"test": old, "train": [chat("tv on", "yes", "Be brief.", id="3")]}, "Be brief.")
    data = EarlierData(path=str(folder.path), digest=folder.digest)
    now = [
        chat("Lamp  on", "no", "Be long.", id="9"),
        chat("fan on", "yes", "Own words.", id="8"),
        chat("fan on", "yes", "Be long.", id="7"),
        chat("tv on", "yes", "Be long.", id="6"),
    ]
    earlier = read_earlier(data, "Be long.")
    assert earlier.sides(table(now)).tolist() == [TEST, TEST, NEW, TRAIN]
    assert earlier.gone(table(now[1:])) == 1
    plain = [chat("lamp on"), chat("fan on"), chat("tv on")]
    assert read_earlier(data, None).sides(table(plain)).tolist() == [TEST, NEW, TRAIN]
    bare = written(tmp_path, "b", {"test": plain[:1], "train": plain[1:]}, None)
    under = read_earlier(EarlierData(path=str(bare.path), digest=bare.digest), "Be long.")
    assert under.sides(table(now)).tolist() == [TEST, NEW, TRAIN, TRAIN]


def test_data_that_changed_or_are_gone_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "a", {"test": [chat("x")], "train": [chat("y")]}, None)
    with pytest.raises(StateError, match="as planned"):
        read_earlier(EarlierData(path=str(folder.path), digest="0" * 64), None)
    with pytest.raises(StateError, match="manifest"):
        read_earlier(EarlierData(path=str(tmp_path / "none"), digest="0" * 64), None)


def written(store: Path, key: str, splits: dict[str, list[Row]], system: str | None) -> Dataset:
    """A dataset as prepare leaves it, without validation rows."""
    made = Store(store)
    with made.create(Dataset, key, {"stage": "prepare", "params": {"config": {"system": system}}}) as out:
        for name, rows in splits.items():
            whole = [{"id": str(n), "label": "all", "template": str(n), **row} for n, row in enumerate(rows)]
            (out / FILES[name]).write_text("".join(json.dumps(row) + "\n" for row in whole))
        (out / "val.jsonl").touch()
    return load(Dataset, made.dir("dataset", key))
