"""Smoke requests: rows taken evenly, an answer with text to each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.canary.smoke import ask, smoke_rows
from slipway.deployment.promotion import rollback
from slipway.errors import BundleError, DataError, StateError
from slipway.store.artifacts import Dataset
from slipway.store.store import Store, load
from tests.support.target import Ship


def test_rows_are_taken_evenly(data: Dataset) -> None:
    assert [json.loads(line)["id"] for line in smoke_rows(data, 2).splitlines()] == ["t0", "t3"]
    assert len(smoke_rows(data, 100).splitlines()) == 7


def test_no_rows_are_refused(store: Store) -> None:
    with store.create(Dataset, "none", {}) as out:
        (out / "test.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        smoke_rows(load(Dataset, store.dir("dataset", "none")), 2)


@pytest.mark.parametrize("row", ["[]", '{"id": "t0"}', '{"id": "t0", "messages": "hello"}', "x"])
def test_a_row_that_is_none_is_named_before_anything_is_asked(row: str) -> None:
    with pytest.raises(StateError, match=r"smoke\.jsonl, line 1"):
        ask(row + "\n", "http://127.0.0.1:1/v1", "m", "0001-aaaaaaaa")


def test_a_release_whose_rows_were_damaged_does_not_come_back(ship: Ship, params: DeployConfig) -> None:
    first, second = ship(), ship(v=2)
    (Path(first.path) / "smoke.jsonl").write_text("[]\n")
    with pytest.raises(BundleError, match=r"smoke\.jsonl: 3 bytes"):
        rollback(params)
    from slipway.deployment.state import status

    now = status(params)
    assert now.release is not None
    assert (now.release.name, now.healthy) == (second.name, True)
