"""The unit of a target as systemd reads it. systemd itself does not run here: what the unit starts is run by hand."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.haproxy.process import wait_until
from slipway.agent.units import PYTHON, ROOT, units
from slipway.deployment.target_file import target_file
from tests.support import debian
from tests.support.switch_agent import switch_agent


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """systemd's own checker of unit files; its package is installed where it is absent."""
    debian.install("systemd", unless="systemd-analyze")
    return "systemd-analyze"


def written(folder: Path, root: Path) -> Path:
    """The unit as a set-up writes it."""
    ((name, text),) = units("lab").items()
    (folder / name).write_text(text.replace(PYTHON, sys.executable).replace(ROOT, str(root)))
    return folder / name


def verified(program: str, unit: Path) -> str:
    """What the checker says; nothing when all is well."""
    done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    return done.stderr + done.stdout + ("" if done.returncode == 0 else f"exit {done.returncode}")


def test_systemd_understands_every_line(systemd_analyze: str, tmp_path: Path) -> None:
    unit = written(tmp_path, tmp_path)
    assert verified(systemd_analyze, unit) == ""
    for line, other in (("Restart=always", "Restart=alwayz"), (sys.executable, "/no/such/python")):
        unit.write_text(unit.read_text().replace(line, other))
        assert other.split("=")[-1] in verified(systemd_analyze, unit)


def test_reports_11_and_15_after_a_reboot_what_the_unit_starts_brings_the_same_back(
    haproxy: None, tmp_path: Path
) -> None:
    """Every process is killed, as by a power cut; then the unit's ExecStart is run, without any of our packages."""
    with switch_agent(tmp_path / "host") as target:
        target.promote("v1")
        target.promote("v2")
        root = target.agent.paths.root
        before = target.agent.call("status", {})
        (root / "slipway-target").write_bytes(target_file())
        for pid in running(before):
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: answer(target.port) == "", 20)
        with started(exec_start(written(tmp_path, root))) as watch:
            assert wait_until(lambda: answer(target.port) == "v2", 60)
            assert watch.poll() is None
            after = target.agent.call("status", {})
            assert after["current"]["digests"] == before["current"]["digests"]
            assert (after["url"], after["healthy"]) == (before["url"], True)
            (proxy,) = after["switching"]["pids"]
            os.kill(proxy, signal.SIGKILL)
            assert wait_until(lambda: proxy not in target.agent.call("status", {})["switching"]["pids"], 20)
            assert wait_until(lambda: answer(target.port) == "v2", 60)
        # the unit was stopped or renewed: what it started goes on
        assert answer(target.port) == "v2"
        assert target.agent.call("status", {})["endpoint"]["pid"] == after["endpoint"]["pid"]


def running(status: dict[str, Any]) -> list[int]:
    """Pids of a target's engine and proxy."""
    return [status["endpoint"]["pid"], *status["switching"]["pids"]]


def answer(port: int) -> str:
    """Who answers clients; empty when nobody does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=120) as response:
            return str(json.load(response)["engine"])
    except (OSError, http.client.HTTPException):
        return ""


def exec_start(unit: Path) -> list[str]:
    """The command of a unit."""
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


@contextmanager
def started(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """As systemd runs it: no terminal, hardly an environment, ended with SIGTERM alone."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/"}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment, cwd="/", text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(120) == 0
