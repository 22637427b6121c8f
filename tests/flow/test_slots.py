"""The slot in Prefect of whoever works on this machine, after `kill -9`: of the holder alone, and of the server too.

The bound of two minutes is what is written down, not what a clock here says: the lease that the server has on record
ends within a minute of the kill, nobody renews it, and the server looks for such leases in intervals.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway.ops.prefect_api import call, machine_slot, make_machine_slot
from tasks.accelerator import SLOT_S
from tests.support.prefect_server import OwnServer
from tests.support.world import ROOT

pytestmark = pytest.mark.timeout(1200)
WAIT_S = 300  # of a poll, on whatever machine; what it waits for comes after 75 s
ZOMBIE_S = 120

HOLDER = """
import sys, time
from pathlib import Path
from prefect import flow
from tasks.accelerator import accelerator_slot

@flow
def works():
    with accelerator_slot():
        Path(sys.argv[1]).touch()
        while not Path(sys.argv[1] + ".end").exists():
            time.sleep(0.1)

works()
"""


@pytest.fixture
def server(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[OwnServer]:
    made = OwnServer(ROOT, tmp_path, pytestconfig)
    try:
        made.start()
        make_machine_slot(made.services)
        yield made
    finally:
        made.kill()


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.wait()


def until(ready: Callable[[], Any]) -> Any:
    """What `ready` gives, once it gives something."""
    deadline = time.monotonic() + WAIT_S
    while not (result := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def holder(server: OwnServer, mark: Path) -> subprocess.Popen[bytes]:
    """A flow that has the slot when `mark` is there, and lets it go when `mark`.end is."""
    command = [sys.executable, "-c", HOLDER, str(mark)]
    environment = {**server.environment(), "PYTHONPATH": str(ROOT)}
    with log_of(mark).open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=out)
    until(lambda: mark.exists() or process.poll() is not None)
    return process


def log_of(mark: Path) -> Path:
    """The log of the holder with this mark."""
    return mark.with_suffix(".log")


def taken(server: OwnServer) -> int | None:
    """How many of the machine's one slot are taken; None while the server does not answer."""
    limit = call(server.services, "GET", f"/v2/concurrency_limits/{machine_slot()}")
    return None if limit is None else int(limit["active_slots"])


def lease_ends(server: OwnServer) -> datetime:
    """When the one lease ends that the server has on record."""
    folder = server.services.data / "prefect" / "concurrency_leases"
    (file,) = [path for path in folder.glob("*.json") if path.name != "expirations.json"]
    return datetime.fromisoformat(json.loads(file.read_text())["expiration"])


def between_looks(server: OwnServer) -> float:
    """Seconds between two looks of the server for leases that are over, as its settings say."""
    settings = call(server.services, "GET", "/admin/settings")
    return float(settings["server"]["services"]["repossessor"]["loop_seconds"])


@pytest.mark.parametrize("server_too", [False, True], ids=["holder", "holder and server"])
def test_no_zombie_has_the_slot_for_more_than_two_minutes(
    server: OwnServer, holders: list[subprocess.Popen[bytes]], tmp_path: Path, server_too: bool
) -> None:
    holders.append(holder(server, tmp_path / "first"))
    assert taken(server) == 1
    os.kill(holders[0].pid, signal.SIGKILL)
    assert holders[0].wait() == -signal.SIGKILL
    killed = datetime.now(UTC)
    assert "no slot" not in log_of(tmp_path / "first").read_text()
    assert taken(server) == 1, "the server does not see a process end"
    assert (lease_ends(server) - killed).total_seconds() <= SLOT_S
    assert SLOT_S + between_looks(server) < ZOMBIE_S
    if server_too:
        server.kill()
        server.start()
    until(lambda: taken(server) == 0)
    holders.append(holder(server, tmp_path / "second"))
    assert taken(server) == 1
    (tmp_path / "second.end").touch()
    assert holders[1].wait(timeout=WAIT_S) == 0
    assert "no slot" not in log_of(tmp_path / "second").read_text()
    assert taken(server) == 0
