"""The watch: what died is started, what a person stopped is not, a failing start is tried ever more rarely."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.watch import EVERY_S, LONGEST_S, Watch
from slipway.errors import EngineError

NAME = "0001-aaaaaaaa"


class Target:
    """A target in the state that a test wants; counts boots."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = root / "lock"
        self.lock.write_text("")
        self.recorded = root / "releases" / NAME / "endpoint.json"
        self.recorded.parent.mkdir(parents=True)
        self.status: dict[str, Any] = {
            "lock": None,
            "interrupted": None,
            "current": {"name": NAME},
            "endpoint": {"port": 8091},
            "switching": {"kind": "haproxy", "running": True},
        }
        self.boots, self.verified = 0, list[dict[str, Any]]()
        self.fault: EngineError | None = None

    def call(self, verb: str, document: dict[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
        if verb == "status":
            return self.status
        if verb == "verify":
            self.verified.append(document)
            return {}
        assert (verb, document) == ("boot", {"owner": "watch"})
        self.boots += 1
        if self.fault:
            self.recorded.unlink(missing_ok=True)  # a start that fails leaves no engine and no record of one
            raise self.fault
        return {}


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def watch(target: Target, shown: list[str] | None = None) -> Watch:
    return Watch(target, target.lock, (shown if shown is not None else []).append)


def test_what_runs_is_left_alone(target: Target) -> None:
    watch(target).look()
    target.status["switching"] = {"kind": "portless", "address": None}
    watch(target).look()
    assert target.boots == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"switching": {"kind": "haproxy", "running": False}}, "the proxy is gone"),
        ({"interrupted": {"action": "promote", "release": NAME}}, f"promote of {NAME} was interrupted"),
    ],
)
def test_what_ended_is_started(target: Target, change: dict[str, Any], reason: str) -> None:
    target.status |= change
    shown: list[str] = []
    watch(target, shown).look()
    assert target.boots == 1
    assert shown == [f"{reason}: starting what the pointer names"]


def test_an_engine_that_died_is_started_and_one_that_was_stopped_is_not(target: Target) -> None:
    target.status["endpoint"] = None
    watch(target).look()
    assert target.boots == 0
    target.recorded.write_text("{}")
    watch(target).look()
    assert target.boots == 1


def test_while_a_command_works_nothing_is_done(target: Target) -> None:
    target.recorded.write_text("{}")
    target.status |= {"endpoint": None, "lock": {"owner": "ann"}, "interrupted": None}
    watch(target).look()
    assert target.boots == 0


def test_before_the_first_promotion_nothing_is_done(target: Target) -> None:
    target.status |= {"current": None, "endpoint": None, "switching": {"running": False}}
    watch(target).look()
    assert target.boots == 0


def test_a_failing_start_is_tried_again_ever_more_rarely_and_said_once(target: Target) -> None:
    target.recorded.write_text("{}")
    target.status["endpoint"] = None
    target.fault = EngineError("engine", "died", "health", "read its log")
    shown: list[str] = []
    looking = watch(target, shown)
    pauses = []
    for _ in range(8):
        looking.look()
        pauses.append(looking.pause_s())
    assert target.boots == 8
    assert pauses[:3] == [2 * EVERY_S, 4 * EVERY_S, 8 * EVERY_S]
    assert pauses[-1] == LONGEST_S
    assert sum("died" in line for line in shown) == 1
    target.fault = None
    looking.look()
    target.status["endpoint"] = {"port": 8091}
    looking.look()
    assert (target.boots, looking.pause_s()) == (9, EVERY_S)


def test_a_failing_start_ends_when_somebody_changes_the_target(target: Target) -> None:
    """`slipway stop` in between: nothing is brought up against it."""
    target.recorded.write_text("{}")
    target.status["endpoint"] = None
    target.fault = EngineError("engine", "died", "health", "read its log")
    looking = watch(target)
    looking.look()
    os.utime(target.lock, (1, 1))
    looking.look()
    assert target.boots == 1


def test_it_ends_when_it_is_told_to(target: Target) -> None:
    ended = threading.Event()
    looking = watch(target)
    target.status["switching"] = {"running": False}
    thread = threading.Thread(target=looking.run, args=(ended,))
    thread.start()
    while target.boots == 0:
        time.sleep(0.01)
    ended.set()
    thread.join(120)
    assert not thread.is_alive()


def test_jobs_of_slurm_are_followed_and_never_booted(tmp_path: Path) -> None:
    """Slurm starts them again itself: a boot would cancel what it has requeued."""
    target = Target(tmp_path)
    (tmp_path / "target.json").write_text('{"slurm": {"gpus": 8}}')
    target.status["endpoint"] = None  # the attempt that it names does not count any more
    calls: list[str] = []

    class Jobs:
        def call(self, verb: str, document: dict[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
            calls.append(verb)
            return target.status if verb == "status" else {"did": "wait", "why": ""}

    Watch(Jobs(), target.lock, lambda _: None).look()
    assert calls == ["status", "follow"]


@pytest.mark.parametrize(("days", "checks"), [(6, 0), (8, 1)])
def test_a_release_is_read_in_full_once_a_week(target: Target, days: float, checks: int) -> None:
    seal = target.recorded.with_name("seal.json")
    watch(target).look()
    seal.write_text("{}")
    os.utime(seal, (0, time.time() - days * 86400))
    watch(target).look()
    assert target.verified == [{"release": NAME, "owner": "watch"}] * checks
    target.status["lock"] = {"owner": "somebody"}
    watch(target).look()
    assert len(target.verified) == checks, "not while somebody changes the target"
    assert target.boots == 0
