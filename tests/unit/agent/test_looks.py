"""A look at a target: what can come back, what a release says of itself, which record others have damaged.

A damaged record stops what depends on it, and nothing else: the target serves, promotes, rolls back to others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent import records
from slipway.agent.agent import Agent
from slipway.errors import ResourceError, SlipwayError, StateError
from slipway.store.store import Store
from tests.support.agent import engine, promote, rollback
from tests.support.garbage import GARBAGE, Garbage, remove
from tests.unit.agent.conftest import running
from tests.unit.agent.test_serving import reboot

OF_A_RELEASE = ("release.json", "start.json", "seal.json", "endpoint.json", "card.md", "verdict.json", "bundle.json")


def test_report_13_what_can_come_back_is_listed_with_dates_while_the_lock_is_held(agent: Agent, store: Store) -> None:
    """kamal#1658: a rollback needs a version that nobody shows."""
    names = [promote(agent, engine(store, v))["name"] for v in (1, 2, 3)]
    rollback(agent)
    other = Agent(agent.paths.root)
    other.call("begin", {"action": "promote", "engine": "a" * 64})
    rows = agent.call("versions", {})["versions"]
    other.close()
    assert [(row["name"], row["state"]) for row in rows] == [
        (names[2], "left"), (names[1], "serving"), (names[0], "previous"),
    ]  # fmt: skip
    assert [len(row["served"]) for row in rows] == [1, 2, 1]
    assert all(row["created"].endswith("Z") and row["served"][0].endswith("Z") for row in rows)


def test_a_document_of_a_release_is_read_and_no_other_file(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    assert agent.call("document", {"release": name, "document": "card.md"}) == {"text": "# Card\n"}
    for request in ({"release": "..", "document": "card.md"}, {"release": name, "document": "none.md"}):
        with pytest.raises(StateError):
            agent.call("document", request)


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)


@pytest.fixture
def names(agent: Agent, store: Store) -> list[str]:
    """Of three releases, the last one serving; a fourth would prune the first."""
    return [promote(agent, engine(store, version))["name"] for version in (1, 2, 3)]


def damage(file: Path, garbage: Garbage) -> None:
    if not file.exists():
        file.write_text('{"some": "record"}\n')
    garbage.put(file)


def test_an_old_release_with_a_damaged_record_is_named_and_set_aside(
    agent: Agent, store: Store, names: list[str]
) -> None:
    file = agent.paths.release(names[0]) / "release.json"
    whole = file.read_bytes()
    for garbage in GARBAGE:
        garbage.put(file)
        with garbage.around():
            state, rows = agent.call("status", {}), agent.call("versions", {})["versions"]
        (row,) = state["damaged"]
        assert (row["record"], row["release"], row["decides"]) == ("release.json", names[0], False)
        assert str(file) in row["error"]["thing"]
        assert [record["name"] for record in state["releases"]] == names[1:]
        assert (state["healthy"], state["previous"]) == (True, names[1])
        assert [(r["name"], r["state"]) for r in rows if "error" in r] == [(names[0], "damaged")]
        remove(file)
        file.write_bytes(whole)
    file.write_text("[")
    fourth = promote(agent, engine(store, 4))["name"]
    assert agent.call("status", {})["pointer"] == fourth
    assert file.parent.is_dir(), "a copy of its record may be put back"
    with pytest.raises(StateError, match=f"record of release {names[0]}"):
        agent.call("begin", {"action": "rollback", "release": names[0]})
    agent.close()
    assert rollback(agent)["name"] == names[2]
    assert agent.call("gc", {"keep": 2})["pruned"] == [fourth]
    assert file.parent.is_dir()


def test_no_record_of_an_old_release_stops_the_others(agent: Agent, store: Store, names: list[str]) -> None:
    for at, record in enumerate(OF_A_RELEASE):
        damage(agent.paths.release(names[0]) / record, GARBAGE[at])
    promote(agent, engine(store, 4))
    assert rollback(agent)["name"] == names[2]
    agent.call("gc", {"keep": 2})
    state = agent.call("status", {})
    assert (state["pointer"], state["healthy"], state["last"]["action"]) == (names[2], True, "rollback")


def test_a_release_that_cannot_start_any_more_leaves_the_champion(agent: Agent, names: list[str]) -> None:
    """The damage shows only when the release is to come back."""
    for record, garbage in (("start.json", GARBAGE[0]), ("start.json", GARBAGE[5]), ("bundle.json", GARBAGE[3])):
        whole = agent.paths.release(names[1]) / "start.json"
        kept = whole.read_bytes()
        damage(agent.paths.release(names[1]) / record, garbage)
        with pytest.raises(SlipwayError, match=r"start\.json|bundle"):
            rollback(agent)
        agent.close()
        remove(agent.paths.release(names[1]) / record)
        whole.write_bytes(kept)
        state = agent.call("status", {})
        assert (state["pointer"], state["healthy"], state["interrupted"]) == (names[2], True, None)


@pytest.mark.parametrize("garbage", GARBAGE[2:9:6], ids=lambda g: g.name)
def test_the_serving_release_with_a_damaged_record_serves_and_is_rolled_back_from(
    agent: Agent, store: Store, names: list[str], garbage: Garbage
) -> None:
    garbage.put(agent.paths.release(names[2]) / "release.json")
    (row,) = agent.call("status", {})["damaged"]
    assert (row["decides"], "slipway rollback" in row["error"]["next_step"]) == (True, True)
    reboot(agent)
    shown: list[str] = []
    assert agent.call("boot", {}, shown.append)["release"] is None
    assert any("release.json" in line for line in shown)
    assert agent.call("status", {})["healthy"]
    with pytest.raises(StateError, match=f"record of release {names[2]}"):  # nobody can tell what it would replace
        promote(agent, engine(store, 4))
    agent.close()
    assert rollback(agent)["name"] == names[1]
    assert promote(agent, engine(store, 4))["name"].startswith("0004-")


@pytest.mark.parametrize("record", ["history.jsonl", "journal.jsonl", "holds.json"])
@pytest.mark.parametrize("garbage", GARBAGE[1:4:2], ids=lambda g: g.name)
def test_a_damaged_record_of_the_target_is_named_and_what_serves_comes_up_after_a_reboot(
    agent: Agent, store: Store, names: list[str], record: str, garbage: Garbage
) -> None:
    file = agent.paths.root / record
    kept = file.read_bytes() if file.exists() else None
    damage(file, garbage)
    (row,) = agent.call("status", {})["damaged"]
    assert (row["record"], row["decides"]) == (record, True)
    assert str(file) in row["error"]["thing"]
    reboot(agent)
    agent.call("boot", {})
    assert agent.call("status", {})["healthy"]
    assert len(running(agent.paths.root)) == 1
    if record == "holds.json":  # whether it is held is asked before a promotion begins, of whoever decides
        shown: list[str] = []
        promote(agent, engine(store, 4), shown.append)
        assert any(line.startswith("old releases stay: holds") for line in shown)
        return
    with pytest.raises(StateError, match=file.name):
        promote(agent, engine(store, 4))
    agent.close()
    assert agent.call("status", {})["healthy"]
    remove(file)  # what the error says
    if kept:
        file.write_bytes(kept)
    assert promote(agent, engine(store, 4))["name"].startswith("0004-")


def test_a_damaged_lock_blocks_no_look_and_is_named_where_it_cannot_be_taken(agent: Agent, names: list[str]) -> None:
    lock = agent.paths.lock
    for garbage in GARBAGE:
        garbage.put(lock)
        with garbage.around():
            assert agent.call("status", {})["pointer"] == names[2]
        if garbage.name in ("directory", "pipe", "symlink to nothing"):
            with pytest.raises(ResourceError, match=r"lock .*no regular file"):
                agent.call("boot", {})
        else:
            assert agent.call("boot", {})["started"] is False
        remove(lock)
        lock.touch()
