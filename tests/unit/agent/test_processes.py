"""Processes out of /proc: a stranger with a pid is never taken for the one that had it before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil

from slipway.agent import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_process_is_the_one_that_psutil_sees_and_ends_by_its_identity_alone() -> None:
    child = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        mine = processes.identify(child.pid)
        seen = psutil.Process(child.pid)
        while not seen.cmdline():  # the kernel lets us go on before the new program has its arguments
            time.sleep(0.001)
        assert processes.command_line(child.pid)[0] == seen.exe()
        assert processes.command_line(child.pid)[1:4] == seen.cmdline()
        assert child.pid in {pid for pid, _ in processes.session_leaders()}
        assert processes.stop(replace(mine, started=mine.started + 1), 0) is False
        assert processes.stop(replace(mine, boot="another"), 0) is False
        assert processes.is_alive(mine)
        assert processes.stop(mine, 10)
        assert not processes.is_alive(mine)
    finally:
        child.kill()
        child.wait()


def test_a_zombie_has_ended() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert processes.process_stat(pid) is not None
    assert not processes.is_alive(processes.identify(pid))
    os.waitpid(pid, 0)


def test_what_is_gone_has_no_command_and_no_identity() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert processes.command_line(child.pid) == []
    assert processes.process_stat(child.pid) is None
