"""What a crash leaves and how the next session finds it: a real scripted engine, killed at one step of each kind.

Every step of promote and rollback: `tests/flow/test_agent_killed.py`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.engines import Engines
from slipway.agent.parts import parts_of
from slipway.agent.probe import memory
from slipway.agent.room import Room
from slipway.agent.start_plan import parse_start
from slipway.agent.transaction import recover, tidy
from slipway.errors import EngineError, StateError
from slipway.store.store import Store
from tests.support.agent import engine, promote, releases, rollback
from tests.unit.agent.conftest import running


def killed(agent: Agent, step: str, act: Callable[[Callable[[str], None]], object]) -> None:
    """Run `act` in a process that ends by SIGKILL when it notes `step`."""

    def die(text: str) -> None:
        if text.startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    if (pid := os.fork()) == 0:
        try:
            act(die)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def power_off(root: Path) -> None:
    """Kill every engine, and see it gone: a signal is no more than a request."""
    for pid in running(root):
        os.kill(pid, signal.SIGKILL)
    while running(root):
        time.sleep(0.01)


@pytest.mark.parametrize(("step", "serves"), [("started", 0), ("switched", 0), ("recorded", 1)])
def test_before_its_record_it_is_undone_and_finished_from_there_on(
    agent: Agent, store: Store, step: str, serves: int
) -> None:
    first, second = promote(agent, engine(store)), engine(store, 2)
    killed(agent, step, lambda die: promote(Agent(agent.paths.root), second, die))
    assert agent.call("status", {})["interrupted"]["action"] == "promote"
    notes: list[str] = []
    recover(parts_of(agent.paths), notes.append)
    assert "was interrupted at" in notes[0]
    on_disk = releases(agent)
    name = [first["name"], f"0002-{second.digest[:8]}"][serves]
    assert on_disk.current() == name
    assert Engines(agent.paths).running() == [name]
    assert len(running(agent.paths.root)) == 1
    assert (first["name"] in on_disk.names(), len(on_disk.names())) == (True, 1 + serves)
    assert agent.call("status", {})["interrupted"] is None
    notes.clear()
    tidy(parts_of(agent.paths), notes.append)
    assert notes == []


def test_after_a_reboot_in_the_middle_the_champion_starts_again(agent: Agent, store: Store) -> None:
    first = promote(agent, engine(store))
    killed(agent, "switched", lambda die: promote(Agent(agent.paths.root), engine(store, 2), die))
    power_off(agent.paths.root)
    recover(parts_of(agent.paths), lambda _: None)
    assert releases(agent).current() == first["name"]
    assert Engines(agent.paths).healthy(first["name"])


def test_held_the_old_engine_ends_first_and_comes_back_when_the_new_one_fails(agent: Agent, store: Store) -> None:
    """Where memory holds one engine only."""
    held = {"settings": {**_settings(agent), "way": "held"}}
    counts: list[int] = []
    first = promote(agent, engine(store), **held)
    second = promote(agent, engine(store, 2), lambda _: counts.append(len(running(agent.paths.root))), **held)
    assert max(counts) == 1
    assert Engines(agent.paths).running() == [second["name"]]
    with pytest.raises(EngineError):
        promote(agent, engine(store, 3, die=True), **held)
    assert Engines(agent.paths).running() == []
    agent.close()
    assert Engines(agent.paths).healthy(second["name"])
    assert rollback(agent)["name"] == first["name"]


def test_auto_holds_where_a_second_engine_does_not_fit(agent: Agent, store: Store, monkeypatch) -> None:
    monkeypatch.setattr("slipway.agent.transaction.room", lambda: Room(9 * 10**9, "memory"))
    auto = {"settings": {**_settings(agent), "way": "auto", "reserve_gb": 1}}
    notes: list[str] = []
    promote(agent, engine(store), **auto)
    for planned, way in ((8e9, "beside"), (8.1e9, "held")):
        plan = parse_start({"plan": {"argv": ["serve"], "memory": {"weights": planned}}}, "start")
        monkeypatch.setattr(Engines, "plan", lambda *_, plan=plan: plan)
        promote(agent, engine(store, int(planned / 1e8)), notes.append, **auto)
        assert [note for note in notes if note.startswith(f"{way}: ")]


def test_report_8_page_cache_is_room_for_a_second_engine(agent: Agent, store: Store, monkeypatch, tmp_path) -> None:
    """vllm#48140: files that were read filled the memory, and the second start was refused by what was free."""
    meminfo = tmp_path / "meminfo"  # a Spark after a model was copied
    meminfo.write_text("MemTotal: 127610880 kB\nMemFree: 2097152 kB\nMemAvailable: 104857600 kB\nCached: 99000000 kB\n")
    monkeypatch.setattr("slipway.agent.room.memory", lambda: memory(meminfo))
    monkeypatch.setattr("slipway.agent.room.QUERY", ["/no/such/program"])
    plan = parse_start({"plan": {"argv": ["serve"], "memory": {"weights": 50e9}}}, "start")
    monkeypatch.setattr(Engines, "plan", lambda *_: plan)
    auto = {"settings": {**_settings(agent), "way": "auto"}}
    notes: list[str] = []
    for version in (1, 2):
        promote(agent, engine(store, version), notes.append, **auto)
    assert [note for note in notes if note.startswith("beside: 50.0 GB planned, 99.4 GB of memory free")]


def test_report_13_a_champion_that_does_not_start_any_more_keeps_nothing_stuck(agent: Agent, store: Store) -> None:
    """nomad#10465: a deployment that could be neither finished nor undone."""
    first = promote(agent, engine(store))
    killed(agent, "started", lambda die: promote(Agent(agent.paths.root), engine(store, 2), die))
    power_off(agent.paths.root)
    (Path(first["path"]) / "engine" / "server").unlink()
    notes: list[str] = []
    recover(parts_of(agent.paths), notes.append)
    assert any("does not start again" in note for note in notes)
    assert promote(agent, engine(store, 3))["name"][:4] == "0002"


def test_a_damaged_record_of_the_serving_engine_ends_nothing(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    (agent.paths.release(name) / "endpoint.json").write_text("{")
    before = running(agent.paths.root)
    with pytest.raises(StateError, match="endpoint of release"):
        tidy(parts_of(agent.paths), lambda _: None)
    assert running(agent.paths.root) == before


def test_a_first_line_that_was_never_whole_began_nothing(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    agent.paths.journal.write_text('{"id": "x", "act')
    tidy(parts_of(agent.paths), lambda _: None)
    assert not agent.paths.journal.exists()
    assert releases(agent).current() == name


def _settings(agent: Agent) -> dict[str, object]:
    import json

    return dict(json.loads((agent.paths.root / "target.json").read_text()))
