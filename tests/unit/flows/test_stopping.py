"""Signals in a real process: what is raised, what exit code comes of it, what nohup keeps away."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from flows.stopping import Stopped, exit_code
from tests.support.terminal import signals_of_a_terminal
from tests.support.world import ROOT

WORK = """
import sys, time
from flows.stopping import exit_code, stopped_by_signals
try:
    with stopped_by_signals():
        try:
            print("ready", flush=True)  # inside: the signal may come before the next line
            time.sleep(60)
        finally:
            for _ in range(int(sys.argv[1])):  # as a stage that takes its time to save
                print("saving", flush=True)
                sys.stdin.readline()
except KeyboardInterrupt as err:
    sys.exit(exit_code(err))
"""


def start(*prefix: str, saves: int = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", WORK, str(saves)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=signals_of_a_terminal,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda v: str(v)
)
def test_each_signal_ends_the_work_with_its_exit_code(sent: signal.Signals, code: int) -> None:
    with start() as process:
        process.send_signal(sent)
        assert process.wait(60) == code


def test_further_signals_do_not_shorten_the_time_to_save() -> None:
    with start(saves=2) as process:
        assert process.stdin and process.stdout
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "saving\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(60) == 143


def test_under_nohup_the_work_outlives_its_terminal() -> None:
    with start("nohup") as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_the_exit_code_of_ctrl_c_and_of_a_signal() -> None:
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(Stopped(signal.SIGHUP)) == 129
