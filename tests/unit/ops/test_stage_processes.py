"""Stage processes that nobody follows: known by record or by command line, ended with their time to save."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.ops.stage_processes import StageProcess, stage_processes, stop_unfollowed
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.system.locks import locked
from tests.support.garbage import GARBAGE, Garbage, remove

NAME = "train_cpu-0123456789abcdef"
STAGE = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "work" / NAME
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text("{}")
    return folder


@pytest.fixture
def pid(work: Path) -> Iterator[int]:
    """A stage process whose flow was killed: started by a process that is gone."""
    code = f"""
import sys
from pathlib import Path
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
work = Path({str(work)!r})
LocalRunner().submit(Job({NAME!r}, (sys.executable, "-c", {STAGE!r}, str(work / "stage.json")), work, stop_s=30.0))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    while "ready" not in (work / "log.txt").read_text():
        time.sleep(0.02)
    pid = int(json.loads((work / "process.json").read_text())["pid"])
    yield pid
    if running(pid):
        os.kill(pid, signal.SIGKILL)


def running(pid: int) -> bool:
    """Whether it lives; a zombie of a container's first process does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_unfollowed_stage_is_named_and_ended_with_its_time_to_save(tmp_path: Path, work: Path, pid: int) -> None:
    store = tmp_path / "store"
    assert stage_processes(store) == [StageProcess(NAME, pid, followed=False)]
    assert stop_unfollowed(store) == [StageProcess(NAME, pid, followed=False)]
    assert not running(pid)
    assert "saved" in (work / "log.txt").read_text()
    assert stage_processes(store) == []


def test_a_followed_stage_is_left_alone(tmp_path: Path, work: Path, pid: int) -> None:
    store = tmp_path / "store"
    with locked(work.with_name(f"{NAME}.lock"), 0.0, "stage train"):
        assert stage_processes(store) == [StageProcess(NAME, pid, followed=True)]
        assert stop_unfollowed(store) == []
    assert running(pid)


@pytest.mark.parametrize("garbage", [*GARBAGE, Garbage("gone", remove)], ids=lambda g: g.name)
def test_a_damaged_or_missing_record_loses_no_process(
    tmp_path: Path, work: Path, pid: int, garbage: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    garbage.put(work / "process.json")
    job = Job(NAME, (sys.executable, "-c", "", str(work / "stage.json")), work)
    assert LocalRunner().submit(job), "adopted, not started twice"
    assert stop_unfollowed(tmp_path / "store") == [StageProcess(NAME, pid, followed=False)]
    assert not running(pid)


def test_a_clock_that_was_set_loses_no_process(tmp_path: Path, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NTP or a suspend does to psutil's creation times: the wall clock's idea of the boot moves."""
    import psutil

    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 86400)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda boot=psutil._pslinux.boot_time: boot() + 86400)
    assert stage_processes(tmp_path / "store") == [StageProcess(NAME, pid, followed=False)]
