"""The local target: which process serves a release, whatever its record says."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import ENDPOINT, LocalTarget
from slipway.errors import EngineError, StateError
from tests.support.target import Ship, running


def test_start_server_stop(ship: Ship, params: DeployConfig) -> None:
    release, target = ship(), LocalTarget(params)
    server = target.server(release.name)
    assert server
    assert running(params) == [server.pid]
    assert target.healthy(release.name)
    (stopped,) = target.stop(release.name)
    assert (stopped.release, stopped.pid, stopped.url) == (release.name, server.pid, server.url)
    assert target.server(release.name) is None
    assert not target.healthy(release.name)
    assert target.stop(release.name) == []


def test_the_record_holds_no_wall_clock_and_survives_one_that_is_set(
    ship: Ship, params: DeployConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NTP or a suspend does: the wall clock, and psutil's idea of when the machine booted, move by a day."""
    release = ship()
    assert "create_time" not in json.loads((Path(release.path) / ENDPOINT).read_text())
    wall, boot = time.time, psutil._pslinux.boot_time
    monkeypatch.setattr(time, "time", lambda: wall() + 86400)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot() + 86400)
    target = LocalTarget(params)
    assert target.healthy(release.name)
    assert len(target.stop(release.name)) == 1
    assert running(params) == []


def test_a_process_whose_pid_was_never_written_down_is_ended(ship: Ship, params: DeployConfig) -> None:
    release = ship()
    file = Path(release.path) / ENDPOINT
    file.write_text(json.dumps({"url": None, "port": json.loads(file.read_text())["port"]}))
    target = LocalTarget(params)
    assert target.server(release.name) is None
    assert len(target.stop(release.name)) == 1
    assert running(params) == []


def test_a_missing_record_hides_no_process(ship: Ship, params: DeployConfig) -> None:
    release = ship()
    (Path(release.path) / ENDPOINT).unlink()
    assert [engine.release for engine in LocalTarget(params).stop(release.name)] == [release.name]
    assert running(params) == []


@pytest.mark.parametrize("row", ["[]", '{"id": "t0"}', '{"id": "t0", "messages": "hello"}'])
def test_smoke_prompts_that_are_none_are_named(ship: Ship, params: DeployConfig, row: str) -> None:
    release = ship()
    (Path(release.path) / "smoke.jsonl").write_text(row + "\n")
    with pytest.raises(StateError, match=r"smoke\.jsonl, line 1"):
        LocalTarget(params).smoke(release.name)


def test_a_dead_engine_is_not_asked(ship: Ship, params: DeployConfig) -> None:
    release = ship()
    (pid,) = running(params)
    os.kill(pid, signal.SIGKILL)
    while running(params):
        time.sleep(0.02)
    with pytest.raises(EngineError, match="its engine died"):
        LocalTarget(params).smoke(release.name)
