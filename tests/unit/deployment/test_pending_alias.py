"""Aliases written down while MLflow was away."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.pending_alias import FILE, pending_aliases, settle, write_down
from slipway.errors import StateError

FIRST, SECOND = "a" * 64, "b" * 64


def test_the_newest_switch_of_a_target_is_what_is_pending(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert pending_aliases(store) == []
    write_down(store, "spark", "home", FIRST)
    write_down(store, "dgx", "home", FIRST)
    newest = write_down(store, "spark", "home", SECOND)
    assert {(one.target, one.engine) for one in pending_aliases(store)} == {("dgx", FIRST), ("spark", SECOND)}
    assert newest in pending_aliases(store)


def test_settling_an_older_switch_leaves_the_newer_note(tmp_path: Path) -> None:
    write_down(tmp_path, "spark", "home", SECOND)
    settle(tmp_path, "spark", FIRST)
    settle(tmp_path, "dgx", SECOND)
    assert len(pending_aliases(tmp_path)) == 1
    settle(tmp_path, "spark", SECOND)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"target": "spark"}]', '[{"target": "s", "line": "l"}]'])
def test_a_damaged_record_is_named_with_what_mends_it(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StateError, match=r"pending aliases.*--mend"):
        pending_aliases(tmp_path)
