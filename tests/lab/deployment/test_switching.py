"""Engines change behind one address under 20 long streams and steady short requests: none fails, none is cut, every
answer is of the engine that the pointer names."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from slipway.agent.haproxy.process import find_haproxy, wait_until
from slipway.errors import EngineError, ResourceError
from tests.support.switch_agent import switch_agent
from tests.support.switch_killed import promote_killed
from tests.support.switch_load import SwitchLoad
from tests.support.switch_site import SwitchSite


@pytest.mark.parametrize("way", ["beside", "held"])
def test_reports_10_and_12_four_transactions_fail_nobody(haproxy: None, tmp_path: Path, way: str) -> None:
    """A stream that ends without [DONE] counts as failed; a retired engine that gets requests is a stray."""
    with switch_agent(tmp_path / way, way=way) as target:
        target.promote("v1")
        with SwitchLoad("127.0.0.1", target.port, events=15) as load:
            load.wait_for(30)
            for action, version in (("promote", "v2"), ("promote", "v3"), ("rollback", "v2"), ("promote", "v4")):
                getattr(target, action)(version)
                load.wait_for(30)
        report, steps = load.report(target.pointer), load.per_step(target.pointer)
        status = target.agent.call("status", {})
    assert report["failed"] == {}
    assert report["strays"] == []
    assert [name for name, _ in steps] == ["v1", "v2", "v3", "v2", "v4"]
    assert [set(counts) for _, counts in steps] == [{name} for name, _ in steps]
    assert status["url"] == f"http://127.0.0.1:{target.port}/v1"
    assert status["switching"]["kind"] == "haproxy"
    assert status["interrupted"] is None


@pytest.mark.parametrize("way", ["beside", "held"])
def test_an_engine_that_does_not_start_fails_nobody(haproxy: None, tmp_path: Path, way: str) -> None:
    """Held, the old engine comes back and answers those that waited."""
    with switch_agent(tmp_path / way, way=way, load_s=0.5) as target:
        target.promote("v1")
        with SwitchLoad("127.0.0.1", target.port, events=10) as load:
            load.wait_for(30)
            with pytest.raises(EngineError, match="out of memory"):
                target.promote("v2", "--die")
            target.agent.call("abort", {})
            load.wait_for(60)
        assert load.report(target.pointer)["failed"] == {}
        assert set(load.report(target.pointer)["engines"]) == {"v1"}
        status = target.agent.call("status", {})
    assert status["healthy"]
    assert not status["switching"]["held"]


def test_auto_holds_what_does_not_fit_beside_and_fails_nobody(haproxy: None, tmp_path: Path) -> None:
    """By the memory of this machine: one candidate that fits beside what serves, one that no machine has room for."""
    with switch_agent(tmp_path / "auto", way="auto") as target:
        target.settings["reserve_gb"] = 0
        target.promote("v1")
        with SwitchLoad("127.0.0.1", target.port, streams=6, events=5) as load:
            load.wait_for(20)
            for version, planned_gb in (("v2", 0.01), ("v3", 1e6)):
                target.memory_gb = planned_gb
                target.promote(version)
                load.wait_for(20)
        report = load.report(target.pointer)
    ways = [note for note in target.notes if note.startswith(("beside: ", "held: "))]
    assert ways[0].startswith("beside: 0.0 GB planned, ") and "memory free above a reserve of 0" in ways[0]
    assert ways[1].startswith("held: 1000000.0 GB planned, ")
    assert ways[2].startswith("held: 0002-") and "ended, requests wait, at most 60 s each," in ways[2]
    assert len(ways) == 3
    assert report["failed"] == {}
    assert report["strays"] == []


KILLS = {
    "beside": [("switched", "done"), ("drained", "begins"), ("recorded", "done")],
    "held": [("held", "begins"), ("held", "done"), ("switched", "begins")],
}


@pytest.mark.parametrize("way", KILLS)
def test_an_agent_killed_in_the_midst_fails_nobody(haproxy: None, tmp_path: Path, way: str) -> None:
    """kill -9 while clients are there: they are served, or wait, until the next command undoes or finishes it."""
    root = tmp_path / way
    with switch_agent(root, way=way) as target:
        serving, outcomes = "v0", []
        target.promote(serving)
        with SwitchLoad("127.0.0.1", target.port, streams=8, events=5) as load:
            for number, (step, state) in enumerate(KILLS[way], 1):
                target.pointer.set(serving, f"v{number}")
                promote_killed(root, f"v{number}", step, state, target.settings)
                assert target.agent.call("status", {})["interrupted"]
                target.agent.call("start_current", {})
                finished = answering(target.port) == f"v{number}"
                serving = f"v{number}" if finished else serving
                target.pointer.set(serving)
                outcomes.append("finished" if finished else "undone")
                load.wait_for(20)
        report = load.report(target.pointer)
    assert report["failed"] == {}
    assert report["strays"] == []
    assert outcomes == ["finished" if step == "recorded" else "undone" for step, _ in KILLS[way]]


def test_an_undo_behind_a_broken_proxy_leaves_the_champion_or_says_what_is_true(haproxy: None, tmp_path: Path) -> None:
    """The proxy breaks after the candidate started: three ways, each with its truth and its way back."""
    program = tmp_path / "haproxy"
    program.symlink_to(find_haproxy(("haproxy",))[0])  # type: ignore[index]
    with switch_agent(tmp_path / "broken") as target:
        target.settings["proxy"]["command"] = [str(program)]
        agent, folder = target.agent, target.agent.paths.proxy
        target.promote("v1")

        def broken() -> str:
            """What the undo of a switch says that failed; empty where nothing is left to say."""
            with pytest.raises(ResourceError):
                agent.call("switch", {"smoke": []})
            try:
                agent.call("abort", {})
            except ResourceError as err:
                return str(err)
            return ""

        def candidate(version: str) -> tuple[int, str]:
            """A started candidate: the proxy's process, and where the champion runs."""
            target.begin(version)
            agent.call("start", {})
            status = agent.call("status", {})
            return status["switching"]["pids"][0], status["endpoint"]["url"]

        def healed() -> None:
            agent.call("start_current", {})
            status = agent.call("status", {})
            assert (status["healthy"], status["interrupted"], status["lost"]) == (True, None, [])
            assert len(status["releases"]) == 1
            assert answering(target.port) == "v1"

        candidate("v2")  # it can be told nothing new, and runs on
        program.rename(tmp_path / "away")
        assert broken() == ""
        assert answering(target.port) == "v1"
        (tmp_path / "away").rename(program)
        healed()

        pid, url = candidate("v3")  # dead, and somebody else has its address
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not agent.call("status", {})["switching"]["pids"], 10)
        with socket.create_server(("127.0.0.1", target.port)):
            message = broken()
        assert message.startswith(f"address http://127.0.0.1:{target.port}/v1: no proxy answers there, 0001-")
        assert url in message and f"pid {os.getpid()}" in message
        assert agent.call("status", {})["healthy"]
        healed()

        _, url = candidate("v4")  # it cannot be asked, nor replaced: nobody knows who gets its requests
        (folder / "admin.sock").unlink()
        program.rename(tmp_path / "away")
        message = broken()
        assert "not undone" in message and url in message and "cannot be asked" in message
        assert answering(target.port) == "v1"
        assert agent.call("status", {})["interrupted"]
        (tmp_path / "away").rename(program)
        healed()


def answering(port: int) -> str:
    """Who answers a client now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as response:
        return str(json.load(response)["engine"])


def test_a_candidate_gets_its_share_and_gives_it_back(haproxy: None, tmp_path: Path) -> None:
    with switch_agent(tmp_path / "share") as target:
        target.promote("v1")
        target.pointer.set("v1", "v2")
        with SwitchLoad("127.0.0.1", target.port, streams=4, events=5) as load:
            target.begin("v2")
            target.agent.call("start", {})
            load.wait_for(30)
            assert set(load.report(target.pointer)["engines"]) == {"v1"}
            assert target.agent.call("share", {"percent": 50}) == {"percent": 50}
            load.wait_for(60)
            assert set(load.report(target.pointer)["engines"]) == {"v1", "v2"}
            target.agent.call("abort", {})
            target.pointer.set("v1")
            load.wait_for(60)
        report = load.report(target.pointer)
    assert report["failed"] == {}
    assert report["strays"] == []


def test_the_same_clients_see_a_naive_restart(haproxy: None, tmp_path: Path) -> None:
    """The control: what the tests above count can fail."""
    with SwitchSite(tmp_path / "proxy") as site:
        site.serve("0001")
        with SwitchLoad(site.settings.host, site.settings.port, events=15) as load:
            load.wait_for(30)
            site.naive("0002")
            load.wait_for(30)
        report = load.report(site.pointer)
    assert any(fault.startswith("stream:") for fault in report["failed"])
    assert set(report["engines"]) == {"0001", "0002"}
