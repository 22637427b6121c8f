"""The history of a target: what a rollback goes back to, and which engines it withdrew."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from slipway.agent.history import History, Switch, engine_digits
from slipway.errors import ResourceError, StateError

FIRST, SECOND, THIRD = "0001-aaaaaaaa", "0002-bbbbbbbb", "0003-cccccccc"


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.jsonl")


def test_there_is_nothing_before_the_first_switch(history: History) -> None:
    assert (history.switches(), history.line(), history.withdrawn()) == ([], [], set())


def test_a_rollback_steps_back_and_withdraws_what_it_left(history: History) -> None:
    for release in (FIRST, SECOND, THIRD):
        history.record("promote", release)
    history.record("rollback", FIRST)
    assert history.line() == [FIRST]
    assert history.withdrawn() == {"bbbbbbbb", "cccccccc"}
    history.record("promote", "0004-bbbbbbbb")  # the second's engine again
    assert history.line() == [FIRST, "0004-bbbbbbbb"]
    assert history.withdrawn() == {"cccccccc"}
    assert [(s.action, s.release) for s in history.switches()][-2:] == [
        ("rollback", FIRST),
        ("promote", "0004-bbbbbbbb"),
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ({"time": "t", "action": "delete", "release": FIRST}, "action"),
        ({"time": "t", "action": "promote", "release": "../../etc"}, "release"),
        ({"time": "t", "action": "promote"}, "release"),
        ({"time": 3, "action": "promote", "release": FIRST}, "time"),
    ],
)
def test_a_line_that_is_no_switch_is_named(tmp_path: Path, history: History, line: object, value: str) -> None:
    history.record("promote", FIRST)
    file = tmp_path / "history.jsonl"
    file.write_text(file.read_text() + json.dumps(line) + "\n")
    with pytest.raises(StateError, match=rf"history\.jsonl, line 2: {value}"):
        history.line()


def test_a_full_disk_leaves_the_history_as_it_was(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.record("promote", FIRST)
    before = (tmp_path / "history.jsonl").read_bytes()

    def full(source: Path, to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(to))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(ResourceError, match="disk: full"):
            history.record("promote", SECOND)
    assert (tmp_path / "history.jsonl").read_bytes() == before


def test_a_release_s_name_ends_with_its_engine_s_digits() -> None:
    assert engine_digits(FIRST) == "aaaaaaaa"
    assert Switch(time="t", action="promote", release="12345-0123abcd").release == "12345-0123abcd"
