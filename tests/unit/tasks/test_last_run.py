"""The summary that a command shows is its own run's, whatever other runs of the store write."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.config.store import StoreConfig
from tasks.last_run import leave_summary, own_summary, summary_file


def test_a_run_that_ends_later_does_not_replace_what_this_one_did(tmp_path: Path) -> None:
    file = summary_file(StoreConfig(root=str(tmp_path / "store")))
    with own_summary() as summary:
        leave_summary({"endpoint": "mine"}, file)
        file.write_text(json.dumps({"endpoint": "another run's"}))
    assert summary == {"endpoint": "mine"}


def test_a_run_that_never_began_shows_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    file = summary_file(StoreConfig(root=str(tmp_path / "store")))
    leave_summary({"endpoint": "earlier"}, file)
    with own_summary() as summary:
        pass
    assert summary == {}
    assert json.loads(file.read_text()) == {"endpoint": "earlier"}
