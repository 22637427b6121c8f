"""Rows and records: what is the same, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slipway.config.store_address import store_address
from slipway.errors import EngineLostError, StateError
from slipway.rag.stores.store import Record, Row, open_store, ranked, record_of
from slipway.system.ports import any_port

ROW = Row(3, "d", 0, 5, "text", np.array([0.6, 0.8], np.float32))


def test_rows_are_the_same_by_place_text_and_vector() -> None:
    assert ROW.same(replace(ROW, vector=ROW.vector + np.float32(5e-7), words=("a",), weights={1: 2.0}))
    for other in (
        replace(ROW, number=4), replace(ROW, document="e"), replace(ROW, end=6), replace(ROW, text="text "),
        replace(ROW, vector=None), replace(ROW, vector=ROW.vector * 1.01), replace(ROW, vector=np.ones(3, np.float32)),
        replace(ROW, vector=np.array([np.nan, 0.8], np.float32)),
    ):  # fmt: skip
        assert not ROW.same(other) and not other.same(ROW)


def test_a_record_is_read_as_it_was_written() -> None:
    record = Record("ab", "cd", 7, 384)
    assert record_of(record.to_json(), "c") == record
    for document in (None, [], "x", {}, {**record.to_json(), "rows": "many"}, {**record.to_json(), "dimension": None}):
        with pytest.raises(StateError, match="collection c: its record is"):
            record_of(document, "collection c")


def test_rankings_are_best_first_and_ties_by_row() -> None:
    assert ranked([(5, 0.5), (2, 0.5), (9, 0.9), (1, 0.1)], 3) == [(9, 0.9), (2, 0.5), (5, 0.5)]


def test_a_store_that_is_down_is_named() -> None:
    with pytest.raises(EngineLostError, match=r"store elasticsearch://\*\*\*@127.0.0.1:\d+: ConnectError"):
        open_store(store_address(f"elasticsearch://user:secret@127.0.0.1:{any_port()}"))
