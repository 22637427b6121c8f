"""A changed format of keys is said once, with how many artifacts it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.key_notice import key_format_notice
from slipway.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add(store: Store, cls: type[Checkpoint] | type[Adapter], key: str, **provenance: int) -> None:
    with store.create(cls, key, {"stage": "test", **provenance}) as out:
        (out / "data").write_text(key)


def test_artifacts_of_older_formats_are_counted_and_the_run_says_why_they_are_made_again(store: Store) -> None:
    add(store, Checkpoint, "a")
    add(store, Adapter, "b")
    add(store, Adapter, "c", key_format=2)
    assert key_format_notice(store.root) == (
        "2 artifacts in the store have keys of another format (2 of format 1; this version writes 2): stages are made "
        "again because the key format changed. `slipway gc` frees what nothing needs."
    )
    assert key_format_notice(store.root) == "", "once"


def test_a_new_or_current_store_has_nothing_to_say(store: Store) -> None:
    assert key_format_notice(store.root) == ""
    add(store, Adapter, "c", key_format=2)
    assert key_format_notice(store.root) == ""


def test_the_next_change_of_format_is_said_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, Adapter, "c", key_format=2)
    assert key_format_notice(store.root) == ""
    monkeypatch.setattr("slipway.store.key_notice.KEY_FORMAT", 3)
    assert "1 of format 2; this version writes 3" in key_format_notice(store.root)


@pytest.mark.parametrize("text", ["", "[]", '{"format": "two"}'])
def test_garbage_in_the_file_is_written_anew(store: Store, text: str) -> None:
    add(store, Adapter, "b")
    (store.root / "key-format.json").write_text(text)
    assert "1 of format 1" in key_format_notice(store.root)
    assert key_format_notice(store.root) == ""
