"""Messages that wait for Prefect: in the store, in turn, and damaged ones named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.errors import StateError
from slipway.ops.message import rolled_back
from slipway.ops.pending_messages import FILE, MOST, pending_messages, settle, write_down
from slipway.store.usage import entries


def test_what_waits_is_in_turn_and_goes_when_it_was_sent(tmp_path: Path) -> None:
    first, second = (rolled_back("spark", name, "2026") for name in ("0001-aa", "0002-bb"))
    for one in (first, second, second):
        write_down(tmp_path, one)
    assert pending_messages(tmp_path) == [first, second]
    settle(tmp_path, first)
    settle(tmp_path, first)
    assert pending_messages(tmp_path) == [second]
    settle(tmp_path, second)
    assert pending_messages(tmp_path) == [] and not (tmp_path / FILE).exists()


def test_many_write_at_once_and_only_the_newest_wait(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_down(tmp_path, rolled_back("spark", f"{n:04d}-aa", "2026")), range(16)))
    assert len(pending_messages(tmp_path)) == 16
    for n in range(MOST):
        write_down(tmp_path, rolled_back("spark", f"{n:04d}-bb", "2026"))
    waiting = pending_messages(tmp_path)
    assert len(waiting) == MOST and all("-bb" in one.event for one in waiting)


@pytest.mark.parametrize("text", ["", "{", "{}", "7", "[7]", '[{"kind": "rollback"}]', '[{"kind": "x", "event": 3}]'])
def test_a_record_that_cannot_be_read_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StateError, match=r"pending messages.*delete it"):
        write_down(tmp_path, rolled_back("spark", "0001-aa", "2026"))


def test_the_store_knows_the_files_of_messages(tmp_path: Path) -> None:
    write_down(tmp_path, rolled_back("spark", "0001-aa", "2026"))
    assert [entry for entry in entries(tmp_path) if entry.what == "unknown"] == []
