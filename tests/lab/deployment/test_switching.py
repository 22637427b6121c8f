"""Engines change behind one address under 20 long streams and steady short requests: none fails, none is cut, every
answer is of the engine that the pointer names."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from slipway.errors import EngineError
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
