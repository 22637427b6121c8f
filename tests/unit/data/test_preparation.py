"""From raw records to prepared rows and splits in files, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.data import DataConfig
from slipway.data.preparation import (
    Prepared,
    flat_counts,
    prepare_rows,
    read_counts,
    read_prepared,
    read_splits,
    write_prepared,
    write_splits,
)
from slipway.data.split import NAMES, split
from slipway.errors import DataError
from slipway.system.progress import Progress
from tests.support.tables import chat

CONFIG = DataConfig(val_fraction=0.2)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    words = ["cat", "dog", "cow", "hen", "pig", "bee", "ant", "owl", "fox", "elk"]
    rows = [chat(f"what does a {word} eat all day", f"food of {word}") for word in words]
    (tmp_path / "raw").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return prepare_rows(tmp_path / "raw", CONFIG, tmp_path, Progress())


def test_prepared_rows_are_read_back(tmp_path: Path, prepared: Prepared) -> None:
    assert [step.reason for step in prepared.steps] == ["read", "invalid", "duplicate", "near duplicate"]
    assert [step.left for step in prepared.steps] == [11, 11, 10, 10]
    write_prepared(tmp_path, prepared)
    again = read_prepared(tmp_path, CONFIG, tmp_path)
    assert (again.steps, again.about) == (prepared.steps, prepared.about)
    assert [again.table.row(i) for i in again.rows] == [prepared.table.row(i) for i in prepared.rows]
    assert again.table.row(0)["template"].startswith("group-")


def test_splits_are_read_back_and_proved_again(tmp_path: Path, prepared: Prepared) -> None:
    splits = split(prepared.table, prepared.rows, CONFIG)
    write_splits(tmp_path, splits, prepared)
    again, about = read_splits(tmp_path, CONFIG, tmp_path)
    assert about == prepared.about
    for name in NAMES:
        assert [again.table.row(i) for i in again[name]] == [splits.table.row(i) for i in splits[name]]
    assert flat_counts(again)["exact_duplicates"] == 1
    assert flat_counts(again)["raw_rows"] == 11
    (tmp_path / "test.jsonl").write_bytes((tmp_path / "train.jsonl").read_bytes())
    with pytest.raises(DataError, match="leak between train and test"):
        read_splits(tmp_path, CONFIG, tmp_path)


def test_counts_of_an_older_version_are_named(tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_text('{"raw_rows": 3}')
    with pytest.raises(DataError, match=r"counts.json: KeyError.*dvc repro"):
        read_counts(tmp_path)
