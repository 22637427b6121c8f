"""The verbs of a transaction, in their order and out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.changes import owner_here
from slipway.errors import CheckpointError, ConfigError, EngineError, ResourceError, SlipwayError
from slipway.store.store import Store
from tests.support.agent import engine, promote, record, releases, rollback, stage_document
from tests.unit.agent.conftest import running


def test_a_promotion_by_its_verbs(agent: Agent, store: Store) -> None:
    made, notes = engine(store), list[str]()
    release = promote(agent, made, notes.append, owner="ann@laptop")
    assert release["name"] == f"0001-{made.digest[:8]}"
    assert release["smoke"] == [{"id": "t0"}]
    assert (Path(release["path"]) / "card.md").read_text() == "# Card\n"
    assert [note.split()[0] for note in notes] == ["staged", "started", "switched", "recorded"]
    assert not agent.lock.held
    assert not agent.paths.journal.exists()
    last = agent.call("status", {})["last"]
    assert (last["action"], last["owner"], len(last["transaction"])) == ("promote", "ann@laptop", 16)


@pytest.mark.parametrize("verb", ["stage", "start", "switch", "commit"])
def test_a_step_without_a_beginning_is_refused(agent: Agent, verb: str) -> None:
    with pytest.raises(ConfigError, match="none is open; expected `begin` first"):
        agent.call(verb, {})


def test_a_second_transaction_waits_for_the_first_of_its_session(agent: Agent, store: Store) -> None:
    agent.call("begin", {"action": "promote", "engine": "a" * 64})
    with pytest.raises(ConfigError, match="one is open in this session"):
        agent.call("begin", {"action": "rollback"})
    agent.call("abort", {})
    agent.call("abort", {})
    promote(agent, engine(store))


def test_two_orchestrators_one_is_refused_naming_the_other_and_its_age(agent: Agent, store: Store) -> None:
    other = Agent(agent.paths.root)
    other.call("begin", {"action": "promote", "engine": "a" * 64, "owner": "ann@laptop"})
    with pytest.raises(ResourceError, match=r"busy: promotion of aaaaaaaaaaaa by ann@laptop, for \d+ s"):
        promote(agent, engine(store), wait_s=0.2)
    assert agent.call("status", {})["lock"]["owner"] == "ann@laptop"
    other.close()
    promote(agent, engine(store), wait_s=0.2)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"action": "fly"},
        {"action": "promote"},
        {"action": "promote", "engine": "../x"},
        {"action": "rollback", "release": 3},
        {"action": "rollback", "wait_s": "long"},
        {"action": "rollback", "settings": {"way": "x"}},
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_the_lock_is_free(agent: Agent, document: dict) -> None:
    with pytest.raises(SlipwayError):
        agent.call("begin", document)
    assert not agent.lock.held


@pytest.mark.parametrize(
    "change",
    [
        {"release": {"model": "m"}},
        {"start": {"plan": {"argv": []}}},
        {"documents": {"../x": "y"}},
        {"engine": {"path": "/nowhere"}},
        {"engine": {}},
        {"manifest": "../x"},
        {"manifest": "a" * 64},
    ],
)
def test_what_cannot_be_staged_is_undone_and_leaves_nothing(agent: Agent, store: Store, change: dict) -> None:
    made = engine(store)
    agent.call("begin", {"action": "promote", "engine": made.digest})
    with pytest.raises(SlipwayError):
        agent.call("stage", {**stage_document(made), **change})
    agent.close()
    assert list(agent.paths.releases.iterdir()) == []
    assert not agent.paths.journal.exists()
    promote(agent, made)


def test_damaged_bytes_never_start(agent: Agent, store: Store) -> None:
    first, made = promote(agent, engine(store)), engine(store, 2)
    (made.path / "model.gguf").write_text("other")
    agent.call("begin", {"action": "promote", "engine": made.digest})
    with pytest.raises(CheckpointError, match=r"model\.gguf has"):
        agent.call("stage", stage_document(made))
    agent.close()
    assert agent.call("status", {})["current"]["name"] == first["name"]


def test_a_candidate_that_died_before_the_switch_is_not_switched_to(agent: Agent, store: Store) -> None:
    first, made = promote(agent, engine(store)), engine(store, 2)
    agent.call("begin", {"action": "promote", "engine": made.digest})
    agent.call("stage", stage_document(made))
    endpoint = agent.call("start", {})
    import os
    import signal

    os.kill(endpoint["pid"], signal.SIGKILL)
    while endpoint["pid"] in running(agent.paths.root):
        pass
    with pytest.raises(EngineError, match="its engine died"):
        agent.call("switch", {})
    agent.close()
    assert agent.call("status", {})["current"]["name"] == first["name"]


def test_the_serving_engine_again_opens_nothing(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    begun = agent.call("begin", {"action": "promote", "engine": engine(store).digest})
    assert (begun["current"]["name"], begun["new"]) == (release["name"], None)
    assert not agent.paths.journal.exists()
    assert not agent.call("start_current", {})["started"]
    agent.close()


def test_the_serving_engine_with_another_index_is_a_change(agent: Agent, store: Store) -> None:
    made = engine(store)
    promote(agent, made)
    begun = agent.call("begin", {"action": "promote", "engine": made.digest, "index": "b" * 64})
    assert begun["new"] == f"0002-{made.digest[:8]}"
    carries = {**stage_document(made), "release": {**record(made), "retrieval": {"index": "b" * 64}}}
    with pytest.raises(CheckpointError, match=rf"index of {begun['new']}: no manifest; expected .*bbbbbbbbbbbb"):
        agent.call("stage", carries)
    agent.close()
    with pytest.raises(SlipwayError, match="index: x"):
        agent.call("begin", {"action": "promote", "engine": made.digest, "index": "x"})
    assert agent.call("begin", {"action": "promote", "engine": made.digest, "index": None})["new"] is None
    agent.close()


def test_a_rollback_by_name_or_number_and_what_cannot_come_back_is_named(agent: Agent, store: Store) -> None:
    with pytest.raises(ResourceError, match="no previous release"):
        rollback(agent)
    names = [promote(agent, engine(store, v))["name"] for v in (1, 2, 3)]
    with pytest.raises(ResourceError, match=rf"to 3: it cannot come back; expected one of {names[1]}, {names[0]}"):
        rollback(agent, release="3")
    assert rollback(agent, release="1")["name"] == names[0]
    assert releases(agent).history.withdrawn() == {name[-8:] for name in names[1:]}
    with pytest.raises(ResourceError, match="no previous release"):
        rollback(agent)


def test_report_12_at_every_step_exactly_the_pointer_s_engine_runs(agent: Agent, store: Store) -> None:
    """kserve#2130, #1968: a retired version came back."""
    steps = [lambda v=v: promote(agent, engine(store, v)) for v in (1, 2, 3)]
    for act in (*steps, lambda: rollback(agent), lambda: promote(agent, engine(store, 4)), lambda: rollback(agent)):
        release = act()
        state = agent.call("status", {})
        assert (state["current"]["name"], state["healthy"], state["lost"]) == (release["name"], True, [])
        assert running(agent.paths.root) == [state["endpoint"]["pid"]]
    assert release["name"][:4] == "0002"


def test_a_held_release_is_never_pruned(agent: Agent, store: Store) -> None:
    names = [promote(agent, engine(store, 1))["name"]]
    (agent.paths.root / "holds.json").write_text(
        json.dumps([{"release": names[0], "by": "ann", "since": "2026-01-01T00:00:00Z", "reason": "audit"}])
    )
    names += [promote(agent, engine(store, v))["name"] for v in (2, 3, 4, 5)]
    assert releases(agent).names() == [names[0], *names[2:]]


def test_an_owner_has_a_user_a_host_and_a_pid() -> None:
    assert "@" in owner_here() and "pid" in owner_here()
