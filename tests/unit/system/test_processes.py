"""A process is known by pid and start, whatever the wall clock does; a stranger with its pid is never touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from slipway.system import processes
from slipway.system.processes import ProcessIdentity, identify
from tests.support.clock import step_clock

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"


@pytest.fixture
def child():
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("seconds", [3600, -3600, 5])
def test_a_clock_step_loses_no_process(child, monkeypatch, seconds):
    mine, created = identify(child.pid), psutil.Process(child.pid).create_time()
    record = mine.model_dump_json()
    step_clock(monkeypatch, seconds)
    moved = psutil.Process(child.pid).create_time() - created
    assert moved == pytest.approx(seconds, abs=0.1), "what psutil tells moves with the clock"
    again = ProcessIdentity.model_validate_json(record)
    assert processes.is_alive(again) and processes.is_same(again)
    assert 0 <= processes.age_s(again) < 600
    assert processes.stop(again, 10) is True
    assert not processes.is_alive(again)


def test_the_start_is_the_kernels(child):
    """Field 22 of stat, read by another's parser: psutil's creation time is that in seconds, plus the boot time."""
    ticks = (psutil.Process(child.pid).create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")
    assert identify(child.pid).started == pytest.approx(ticks, abs=1)


def test_a_name_with_brackets_and_blanks_is_read_over(tmp_path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        while psutil.Process(process.pid).name() != program.name:
            time.sleep(0.01)
        ticks = (psutil.Process(process.pid).create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")
        assert identify(process.pid).started == pytest.approx(ticks, abs=1)
        process.kill()


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another boot"}])
def test_another_start_or_boot_is_a_stranger(child, change):
    stranger = identify(child.pid).model_copy(update=change)
    assert not processes.is_same(stranger)
    assert processes.stop(stranger, 0) is False
    processes.send(stranger, signal.SIGKILL)
    processes.send_group(stranger, signal.SIGKILL)
    assert processes.command_line(stranger) == [] and processes.environment(stranger) == {}
    assert child.poll() is None


def test_a_record_of_an_earlier_version_is_read_by_its_creation_time(child):
    created = psutil.Process(child.pid).create_time()
    old = json.dumps({"name": "train-1", "pid": child.pid, "create_time": created})
    assert processes.is_alive(ProcessIdentity.model_validate_json(old))
    assert not processes.is_alive(ProcessIdentity(pid=child.pid, create_time=created - 60))
    assert not processes.is_alive(ProcessIdentity(pid=child.pid))


def test_a_process_that_is_gone(child):
    mine = identify(child.pid)
    child.kill()
    child.wait()
    assert not processes.is_alive(mine) and not processes.is_same(mine)
    assert processes.stop(mine, 0) is False
    with pytest.raises(ProcessLookupError):
        identify(child.pid)


def test_a_zombie_has_ended_but_its_pid_is_still_its_own(child):
    mine = identify(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not processes.is_alive(mine)
    assert processes.is_same(mine)


def test_what_ignores_sigterm_is_killed():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        mine = identify(process.pid)
        assert processes.stop(mine, grace_s=0.1) is True
        assert not processes.is_alive(mine)


def test_a_family_ends_together_and_a_group_is_signalled_after_its_leader():
    code = f"import subprocess, sys; c = subprocess.Popen({SLEEP!r}); print(c.pid, flush=True); c.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leader:
        grandchild = identify(int(leader.stdout.readline()))
        mine = identify(leader.pid)
        assert set(processes.family(mine)) == {mine, grandchild}
        leader.kill()
        leader.wait()
        assert processes.wait_ended([mine, grandchild], 0) == [grandchild]
        processes.send_group(mine, signal.SIGKILL)
        assert processes.wait_ended([grandchild], 10) == []


def test_a_group_that_may_be_a_strangers_is_left_alone():
    """The leader is gone, and the record cannot say that the number was not given out again since."""
    code = f"import subprocess, sys; c = subprocess.Popen({SLEEP!r}); print(c.pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leader:
        member = identify(int(leader.stdout.readline()))
        mine = identify(leader.pid)
    for stranger in (ProcessIdentity(pid=mine.pid, create_time=1.0), mine.model_copy(update={"boot": "another boot"})):
        processes.send_group(stranger, signal.SIGKILL)
        assert processes.is_alive(member)
    processes.send_group(mine, signal.SIGKILL)
    while processes.is_alive(member):
        time.sleep(0.01)


def test_what_a_process_was_started_with():
    with subprocess.Popen(SLEEP, env={"MARK": "here"}) as process:
        while "MARK" not in psutil.Process(process.pid).environ():  # before exec it is still our copy
            time.sleep(0.01)
        mine = identify(process.pid)
        assert processes.command_line(mine) == SLEEP
        assert processes.environment(mine) == {"MARK": "here"}
        process.kill()
