"""One change of a target at a time: who holds it is named with its age, and a lock never outlives its holder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from slipway.agent.lock import TargetLock, described
from slipway.errors import ResourceError


def test_a_second_one_is_refused_naming_action_owner_and_age(tmp_path: Path) -> None:
    first, second = (TargetLock(tmp_path / "root" / "lock", "target x") for _ in range(2))
    assert first.holder() is None
    first.acquire("ann@laptop", "promotion of abc", 0)
    with pytest.raises(ResourceError, match=r"target x: busy: promotion of abc by ann@laptop, for \d+ s") as caught:
        second.acquire("bob", "rollback", 0.15)
    assert caught.value.exit_code == 4
    assert (second.held, first.held) == (False, True)
    first.release()
    second.acquire("bob", "rollback", 0)
    holder = first.holder()
    assert holder is not None
    assert (holder["owner"], holder["action"], holder["pid"]) == ("bob", "rollback", os.getpid())
    second.release()
    assert second.holder() is None


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    lock = TargetLock(tmp_path / "lock", "target x")
    if (pid := os.fork()) == 0:
        lock.acquire("a", "dies", 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert "dies" in (tmp_path / "lock").read_text()
    assert lock.holder() is None
    lock.acquire("b", "next", 0)
    assert json.loads((tmp_path / "lock").read_text())["action"] == "next"
    lock.release()


@pytest.mark.parametrize("text", ["", "[1]", "[" * 3000, "promotion by pid 3"])
def test_a_record_that_is_none_hides_no_holder(tmp_path: Path, text: str) -> None:
    first, second = (TargetLock(tmp_path / "lock", "target x") for _ in range(2))
    first.acquire("a", "b", 0)
    (tmp_path / "lock").write_text(text)
    with pytest.raises(ResourceError, match="busy: another process"):
        second.acquire("c", "d", 0)
    first.release()


def test_a_place_that_is_taken_by_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ResourceError, match="lock"):
        TargetLock(tmp_path / "lock", "target x").acquire("a", "b", 0)


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    assert described({"action": "a", "owner": "b", "since": 9e12}) == "a by b, for 0 s"
    assert described({"action": "a", "owner": "b", "since": "x"}) == "a by b"
