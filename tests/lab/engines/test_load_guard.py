"""The load guard on this machine's own memory: a real process takes 2 GB/s, and is stopped before the floor.

It needs 10 GB available, of which it takes four: more, where other tests give memory back meanwhile.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from slipway.config.target import GuardConfig
from slipway.engines.load_guard import LoadGuard
from slipway.errors import ResourceError
from slipway.runners.base import Job, State
from slipway.runners.local import LocalRunner

GB = 10**9
# Takes `argv[1]` GB and touches every page, 0.1 GB each 0.05 s, then waits.
LOADER = """
import sys, time
blocks, begun = [], time.monotonic()
for i in range(int(float(sys.argv[1]) * 10)):
    block = bytearray(100_000_000)
    block[::4096] = b"x" * len(block[::4096])
    blocks.append(block)
    print(i, flush=True)
    time.sleep(max(0.0, begun + 0.05 * (i + 1) - time.monotonic()))
time.sleep(600)
"""
CHAMPION = "import time\nwhile True: print(time.time(), flush=True); time.sleep(0.05)"


@pytest.fixture
def available() -> float:
    """Bytes available, once there are 10 GB: other tests come and go."""
    deadline = time.monotonic() + 300
    while (now := float(psutil.virtual_memory().available)) < 10 * GB:
        assert time.monotonic() < deadline, f"{now / GB:.1f} GB are available, for five minutes; 10 are needed"
        time.sleep(1)
    return now


def job(name: str, folder: Path, code: str, *words: str) -> Job:
    (folder / name).mkdir()
    return Job(name, (sys.executable, "-c", code, *words), folder / name, stop_s=10.0)


def test_report_7_a_loader_of_2_gb_a_second_is_stopped_4_gb_below_and_the_champion_lives(tmp_path, available):
    loader, champion = job("loader", tmp_path, LOADER, "8"), job("champion", tmp_path, CHAMPION)
    floor = available - 4 * GB
    params = GuardConfig(available_gb=floor / GB, free_gb=0, kernel_log=str(tmp_path / "kern.log"))
    (tmp_path / "kern.log").touch()
    runner = LocalRunner()
    runner.submit(champion)
    try:
        with LoadGuard("loader", params, lambda: runner.cancel(replace(loader, stop_s=0.0))) as guard:
            runner.submit(loader)
            deadline = time.monotonic() + 120
            while guard.stopped is None or runner.poll(loader) is None:
                assert time.monotonic() < deadline, "nothing was stopped"
                time.sleep(0.05)
        ended = runner.poll(loader)
        assert ended is not None and ended.state is State.CANCELLED
        taken = int(loader.log.read_text().split()[-1]) / 10
        assert 0.5 < taken < 8.0, "it had begun, and did not take all that it wanted"
        assert guard.lowest >= floor, f"{(floor - guard.lowest) / GB:.2f} GB below the floor"
        with pytest.raises(ResourceError, match="memory of the machine while loader loads"):
            guard.check()
        assert runner.poll(champion) is None, "the champion runs on"
        alive = len(champion.log.read_text().splitlines())
        while len(champion.log.read_text().splitlines()) <= alive:
            time.sleep(0.05)
    finally:
        for one in (loader, champion):
            runner.cancel(replace(one, stop_s=0.0))


def test_a_loader_that_leaves_enough_is_let_alone(tmp_path, available):
    loader = job("loader", tmp_path, LOADER, "0.5")
    params = GuardConfig(available_gb=(available - 6 * GB) / GB, free_gb=0, kernel_log=str(tmp_path / "kern.log"))
    runner = LocalRunner()
    try:
        with LoadGuard("loader", params, lambda: runner.cancel(replace(loader, stop_s=0.0))) as guard:
            runner.submit(loader)
            while not loader.log.exists() or loader.log.read_text().split()[-1:] != ["4"]:
                assert runner.poll(loader) is None
                time.sleep(0.05)
        guard.check()
        assert any("kernel's log is not watched" in note for note in guard.notes)
        assert runner.poll(loader) is None
    finally:
        runner.cancel(replace(loader, stop_s=0.0))
