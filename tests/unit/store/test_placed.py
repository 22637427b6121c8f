"""Artifacts whose large files lie on another machine only."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import StateError
from slipway.store.artifacts import Adapter
from slipway.store.placed import PLACED, Placed, placed, placed_files
from slipway.store.store import Store, load, sized, verify

THERE = Placed(address="ssh://me@other", folder="/x/y", python="/x/python", files=("weights",))


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    store = Store(tmp_path)
    with store.create(Adapter, "a", {}) as out:
        (out / "weights").write_bytes(b"w" * 100)
        (out / "config.json").write_text("{}")
    return load(Adapter, store.dir("adapter", "a"))


def test_files_that_lie_there_are_not_missed_by_who_does_not_read_them(adapter: Adapter, tmp_path: Path) -> None:
    assert (placed(adapter.path), placed_files(adapter.path)) == (None, frozenset())
    (adapter.path / "weights").unlink()
    (adapter.path / PLACED).write_text(THERE.model_dump_json())
    assert (placed(adapter.path), placed_files(adapter.path)) == (THERE, {"weights"})
    assert verify(adapter.path) == "weights lies on ssh://me@other only"
    assert verify(adapter.path, elsewhere=True) is None
    assert sized(adapter.path)
    assert Store(tmp_path).find(Adapter, "a") == adapter
    (adapter.path / "config.json").unlink()  # this one was here
    assert verify(adapter.path, elsewhere=True) == "config.json is missing"
    assert not sized(adapter.path)


def test_a_damaged_record_is_damage_of_the_artifact(adapter: Adapter, tmp_path: Path) -> None:
    (adapter.path / PLACED).write_text("{")
    with pytest.raises(StateError, match="place of an artifact"):
        placed(adapter.path)
    assert "placed.json unreadable" in (verify(adapter.path) or "")
    assert not sized(adapter.path)
    with pytest.warns(UserWarning):
        assert Store(tmp_path).find(Adapter, "a") is None
