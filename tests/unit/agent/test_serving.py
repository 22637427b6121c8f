"""What serves, what can come back, and how it starts again without anybody."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.errors import CheckpointError, ConfigError, ResourceError, StateError
from slipway.store.store import Store
from tests.support.agent import engine, promote, stage_document
from tests.unit.agent.conftest import running


def reboot(agent: Agent) -> None:
    """Every engine dies; records, locks and journal are as they were."""
    for pid in running(agent.paths.root):
        os.kill(pid, signal.SIGKILL)
    while running(agent.paths.root):
        pass


def test_before_the_first_promotion_there_is_nothing(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "none")
    state = agent.call("status", {})
    assert (state["current"], state["url"], state["healthy"], state["releases"]) == (None, None, False, [])
    assert agent.call("versions", {}) == {"versions": []}
    assert not agent.paths.root.exists(), "looking makes nothing"
    assert agent.call("boot", {}) == {"release": None}
    with pytest.raises(ResourceError, match="nothing was promoted yet"):
        agent.call("start_current", {})


def test_report_15_after_a_reboot_the_same_digest_serves_again(agent: Agent, store: Store) -> None:
    """spark-vllm-docker#173: nothing started, or another image did."""
    promote(agent, engine(store))
    second = promote(agent, engine(store, 2))
    reboot(agent)
    assert agent.call("status", {})["healthy"] is False
    fresh = Agent(agent.paths.root)  # as a unit starts it: nothing is given but the root
    booted = fresh.call("boot", {})
    assert booted["started"]
    state = fresh.call("status", {})
    assert (state["healthy"], state["current"]["digests"]) == (True, second["digests"])
    assert len(running(agent.paths.root)) == 1
    assert fresh.call("boot", {})["started"] is False
    assert running(agent.paths.root) == [state["endpoint"]["pid"]]


def test_report_15_other_bytes_are_not_started(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    reboot(agent)
    (Path(release["path"]) / "engine" / "model.gguf").write_text("moved")
    with pytest.raises(CheckpointError, match=r"model\.gguf has"):
        agent.call("boot", {})
    assert running(agent.paths.root) == []


def test_a_reboot_in_the_middle_of_a_promotion_brings_the_champion_up(agent: Agent, store: Store) -> None:
    first, made = promote(agent, engine(store)), engine(store, 2)
    dying = Agent(agent.paths.root)
    dying.call("begin", {"action": "promote", "engine": made.digest})
    dying.call("stage", stage_document(made))
    dying.call("start", {})
    dying.lock.release()  # as the kernel does when its process dies
    reboot(agent)
    agent.call("boot", {})
    state = agent.call("status", {})
    assert (state["current"]["name"], state["healthy"], state["interrupted"]) == (first["name"], True, None)
    assert [release["name"] for release in state["releases"]] == [first["name"]]


def test_stop_ends_every_engine_and_says_which_record_it_could_not_read(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    endpoint = agent.call("status", {})["endpoint"]
    agent.paths.history.write_text("[")
    result = agent.call("stop", {})
    assert [row["pid"] for row in result["stopped"]] == [endpoint["pid"]]
    assert "history" in result["error"]["thing"]
    assert running(agent.paths.root) == []
    agent.paths.history.unlink()
    again = agent.call("stop", {})
    assert again == {"stopped": [], "error": None}
    assert agent.call("status", {})["current"]["name"] == release["name"]


def test_a_proxy_that_cannot_be_keeps_nobody_from_ending_the_engines(agent: Agent, store: Store) -> None:
    promote(agent, engine(store))
    file = agent.paths.root / "target.json"
    proxy = {"kind": "haproxy", "port": 1, "host": "0.0.0.0"}  # beyond loopback, without a key
    file.write_text(json.dumps({**json.loads(file.read_text()), "proxy": proxy}))
    assert "deploy.proxy.host: 0.0.0.0" in agent.call("status", {})["switching"]["note"]
    result = agent.call("stop", {})
    assert (len(result["stopped"]), result["error"]) == (1, None)
    assert running(agent.paths.root) == []
    with pytest.raises(ConfigError, match=r"deploy\.proxy\.host"):
        agent.call("start_current", {})


def test_stop_in_the_middle_of_a_promotion_starts_nothing(agent: Agent, store: Store) -> None:
    first, made = promote(agent, engine(store)), engine(store, 2)
    dying = Agent(agent.paths.root)
    dying.call("begin", {"action": "promote", "engine": made.digest})
    dying.call("stage", stage_document(made))
    dying.call("start", {})
    dying.lock.release()
    assert len(agent.call("stop", {})["stopped"]) == 2
    assert running(agent.paths.root) == []
    assert agent.call("status", {})["current"]["name"] == first["name"]


def test_gc_says_first_and_deletes_then(agent: Agent, store: Store) -> None:
    names = [promote(agent, engine(store, v))["name"] for v in (1, 2, 3)]
    assert agent.call("gc", {"keep": 2, "dry_run": True}) == {"pruned": names[:1], "collected": []}
    assert agent.call("gc", {"keep": 2, "dry_run": True, "spare": names[:1]}) == {"pruned": [], "collected": []}
    assert agent.call("gc", {"keep": 2}) == {"pruned": names[:1], "collected": []}
    assert agent.call("gc", {"keep": 0}) == {"pruned": [], "collected": []}


def test_a_start_plan_may_be_brought_for_a_release_of_an_earlier_version(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    start = Path(release["path"]) / "start.json"
    plan = json.loads(start.read_text())
    reboot(agent)
    start.unlink()
    with pytest.raises(StateError, match="released by an earlier version"):
        agent.call("boot", {})
    assert agent.call("start_current", {"start": plan})["started"]
    assert start.exists()
