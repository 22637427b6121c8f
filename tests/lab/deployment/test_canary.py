"""A canary on a target: the agent's verbs, a real HAProxy, engines of their own processes, clients that go on."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slipway.config.canary import CanaryConfig
from slipway.deployment.canary.run import run_canary
from slipway.deployment.local import LocalTarget
from slipway.errors import GateError
from tests.support.switch_agent import SwitchAgent, switch_agent
from tests.support.switch_load import SwitchLoad


class AgentOf(LocalTarget):
    """The target of a test's agent, as promotions call it."""

    def __init__(self, target: SwitchAgent) -> None:
        self.agent = target.agent


def started(target: SwitchAgent) -> None:
    """Version 1 serves, version 2 is started beside it in an open transaction."""
    target.promote("1")
    target.begin("2")
    target.agent.call("start", {})


def test_a_mirror_under_load_pairs_answers_and_ends_without_a_lost_request(haproxy: None, tmp_path: Path) -> None:
    notes: list[str] = []
    with switch_agent(tmp_path / "s") as target:
        started(target)
        with SwitchLoad("127.0.0.1", target.port, streams=6, events=5) as load:
            load.wait_for(10)
            params = CanaryConfig(way="mirror", for_s=60, margin=0.2)
            report = run_canary(AgentOf(target), params, notes.append)
            load.wait_for(20)
            target.agent.call("abort", {})
            load.wait_for(20)
        counted = load.report(target.pointer)
        status = target.agent.call("status", {})
    assert counted["failed"] == {} and set(counted["engines"]) == {"1"}
    assert report["compared"] > 5 and report["failed"] == 0 and report["mirror"]["mirrored"] >= report["compared"]
    assert report["outcome"] == "no_difference" and report["equal"] == report["compared"]
    assert status["healthy"] and status["switching"]["mirrored"] is False and len(status["releases"]) == 1


def test_a_session_that_ends_in_a_canary_leaves_the_champion_alone(haproxy: None, tmp_path: Path) -> None:
    with switch_agent(tmp_path / "s") as target:
        started(target)
        target.agent.call("mirror", {"on": True})
        assert target.agent.call("status", {})["switching"]["mirrored"] is True
        with SwitchLoad("127.0.0.1", target.port, streams=3, events=5) as load:
            load.wait_for(10)
            target.agent.close()
            load.wait_for(15)
        counted, status = load.report(target.pointer), target.agent.call("status", {})
    assert counted["failed"] == {} and set(counted["engines"]) == {"1"}
    assert status["switching"]["mirrored"] is False and len(status["releases"]) == 1 and status["lost"] == []


def test_a_candidate_with_a_share_that_dies_is_refused_by_name(haproxy: None, tmp_path: Path) -> None:
    with switch_agent(tmp_path / "s") as target:
        started(target)
        target.pointer.set("1", "2")
        with SwitchLoad("127.0.0.1", target.port, streams=0) as load:

            def kill_after_a_while(_: float) -> None:
                load.wait_for(60)
                lost = target.agent.call("status", {})["lost"]
                if not lost:  # it has died already
                    return
                release = lost[0]["release"]
                endpoint = json.loads((target.agent.paths.release(release) / "endpoint.json").read_text())
                with suppress(ProcessLookupError):
                    os.kill(endpoint["pid"], signal.SIGKILL)

            with pytest.raises(GateError, match="the candidate died"):
                run_canary(
                    AgentOf(target), CanaryConfig(way="weight", for_s=60), lambda _: None, sleep=kill_after_a_while
                )
            moment = time.monotonic()
            target.agent.call("abort", {})
            load.wait_for(40)
        answers = [answer for answer in load.answers if answer.sent > moment]
    assert len(answers) > 20 and [answer.fault for answer in answers if answer.fault] == []


def ask(port: int, text: str) -> dict[str, Any]:
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


def test_capture_stays_on_through_a_switch_and_off_is_off(haproxy: None, tmp_path: Path) -> None:
    with switch_agent(tmp_path / "s") as target:
        target.promote("1")
        ask(target.port, "before")
        target.agent.call("capture", {"do": "on", "days": 1, "megabytes": 1})
        assert ask(target.port, "mail jo@mail.example")["engine"] == "1"
        target.promote("2")
        assert ask(target.port, "after the switch")["engine"] == "2"
        while len(target.agent.call("capture", {"do": "show", "most": 10})["prompts"]) < 2:
            time.sleep(0.05)  # a prompt is written down behind its answer
        target.agent.call("capture", {"do": "off"})
        ask(target.port, "off")
        rows = target.agent.call("capture", {"do": "show", "most": 10})["prompts"]
        mirrored = target.agent.call("status", {})["switching"]["mirrored"]
    texts = [row["request"]["messages"][0]["content"] for row in rows]
    assert texts == ["mail <mail>", "after the switch"] and mirrored is False
