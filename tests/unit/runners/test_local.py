"""Jobs on this machine: outcomes, a group that ends whole, and adoption by a process that did not start them."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psutil
import pytest

from slipway.runners import local
from slipway.runners.base import Job, State, follow
from slipway.runners.local import LocalRunner
from tests.support.clock import step_clock
from tests.support.ended import has_ended

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


def job(tmp_path, *argv, **more):
    return Job("train-1", argv, tmp_path, **more)


def end(runner, one):
    while (ended := runner.poll(one)) is None:
        time.sleep(0.02)
    return ended


def test_an_exit_code_and_the_output_are_kept(tmp_path):
    one = job(tmp_path, sys.executable, "-c", "print('said'); raise SystemExit(7)")
    looks = []
    ended = follow(LocalRunner(), one, lambda: looks.append(1), poll_s=0.01)
    assert (ended.state, ended.code, ended.reason) == (State.FAILED, 7, "exit code 7")
    assert one.log.read_text() == "said\n" and ended.peak_rss > 1e6 and looks


def test_a_job_does_not_see_the_logins_of_the_flow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("HF_TOKEN", "theirs")
    code = "import os; print([os.environ.get(n) for n in ('MLFLOW_TRACKING_PASSWORD', 'HF_TOKEN')])"
    one = job(tmp_path, sys.executable, "-c", code)
    assert follow(LocalRunner(), one, lambda: None, poll_s=0.01).state is State.DONE
    assert one.log.read_text() == "[None, 'theirs']\n"


def test_a_cancelled_job_had_its_time_to_save(tmp_path):
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(0))); "
        "print('on', flush=True); time.sleep(60)"
    )
    one, runner = job(tmp_path, sys.executable, "-c", code), LocalRunner()
    runner.submit(one)
    while "on" not in one.log.read_text():
        time.sleep(0.02)
    assert runner.cancel(one).state is State.CANCELLED
    assert "saved" in one.log.read_text()
    assert runner.poll(one).state is State.CANCELLED


def test_a_job_that_two_threads_follow_ends_once_and_as_one_of_them_ended_it(tmp_path):
    """A load guard cancels in a thread of its own what the main thread polls: both reaped, and one of them lost it."""
    for turn in range(4):
        (tmp_path / str(turn)).mkdir()
        one, runner = Job(f"train-{turn}", SLEEP, tmp_path / str(turn), stop_s=0.0), LocalRunner()
        runner.submit(one)
        with ThreadPoolExecutor(4) as pool:
            looks = [Event() for _ in range(3)]  # a follower that came after the end would start the job again
            followed = [pool.submit(follow, runner, one, look.set, poll_s=0.002) for look in looks]
            assert all(look.wait(120) for look in looks)
            cancelled = pool.submit(runner.cancel, one).result(60)
            outcomes = {cancelled, *(future.result(60) for future in followed), runner.poll(one)}
        assert len(outcomes) == 1
        assert cancelled.state is State.CANCELLED and cancelled.code in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_job_submitted_again_while_it_is_cancelled_does_not_outlive_the_cancelling(tmp_path):
    class SubmittedAgain(LocalRunner):
        again = True

        def poll(self, job):
            ended = super().poll(job)
            if ended and self.again and ended.state is State.CANCELLED:
                self.again = False
                self.submit(job)
                return None
            return ended

    one, runner = job(tmp_path, *SLEEP, stop_s=0.0), SubmittedAgain()
    runner.submit(one)
    assert runner.cancel(one).code == -signal.SIGKILL and not runner.again


def test_what_ignores_sigterm_is_killed_with_its_children(tmp_path):
    code = (
        "import signal, subprocess, sys, time; signal.signal(15, signal.SIG_IGN); c = "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(c.pid, flush=True); "
        "time.sleep(60)"
    )
    one, runner = job(tmp_path, sys.executable, "-c", code, stop_s=0.2), LocalRunner()
    runner.submit(one)
    while not one.log.read_text().strip():
        time.sleep(0.02)
    child = psutil.Process(int(one.log.read_text()))
    assert runner.cancel(one).code == -9
    psutil.wait_procs([child], timeout=120)
    assert not child.is_running()


def test_an_interrupted_follower_leaves_nothing_running(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    one = job(tmp_path, *SLEEP)
    with pytest.raises(KeyboardInterrupt):
        follow(LocalRunner(), one, interrupt)
    assert has_ended(json.loads((tmp_path / "process.json").read_text())["pid"])


ORPHAN = """
import os, pathlib, signal, sys
from slipway.runners import local
from slipway.runners.local import LocalRunner
from slipway.runners.base import Job
work = pathlib.Path(sys.argv[1])
until = "import pathlib, sys, time\\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
LocalRunner().submit(Job("train-1", (sys.executable, "-c", until, str(work / "go")), work))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_job_whose_orchestrator_was_killed_is_adopted_not_started_twice(tmp_path, cancelled):
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path)], check=False)
    pid = json.loads((tmp_path / "process.json").read_text())["pid"]
    one, runner = job(tmp_path, *SLEEP), LocalRunner()
    assert runner.submit(one) is True
    assert json.loads((tmp_path / "process.json").read_text())["pid"] == pid
    assert runner.poll(one) is None
    if not cancelled:
        (tmp_path / "go").touch()
    ended = runner.cancel(one) if cancelled else end(runner, one)
    assert ended.state is (State.CANCELLED if cancelled else State.LOST) and ended.code is None
    assert has_ended(pid)


def test_a_pid_that_another_process_has_now_is_not_adopted(tmp_path):
    (tmp_path / "process.json").write_text(json.dumps({"name": "train-1", "pid": os.getpid(), "create_time": 1.0}))
    one, runner = job(tmp_path, sys.executable, "-c", "pass"), LocalRunner()
    assert runner.submit(one) is False
    assert end(runner, one).state is State.DONE


def test_a_job_is_adopted_across_a_clock_step(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path)], check=False)
    pid = json.loads((tmp_path / "process.json").read_text())["pid"]
    step_clock(monkeypatch, 3600)
    one, runner = job(tmp_path, *SLEEP), LocalRunner()
    assert runner.submit(one) is True
    assert json.loads((tmp_path / "process.json").read_text())["pid"] == pid
    ended = runner.cancel(one)
    assert ended.state is State.CANCELLED and 0 <= ended.seconds < 600, (
        "its age is counted since boot, not by the wall clock"
    )


def test_a_record_of_an_earlier_version_is_adopted(tmp_path):
    subprocess.run([sys.executable, "-c", ORPHAN, str(tmp_path)], check=False)
    file = tmp_path / "process.json"
    pid = json.loads(file.read_text())["pid"]
    file.write_text(json.dumps({"name": "train-1", "pid": pid, "create_time": psutil.Process(pid).create_time()}))
    one, runner = job(tmp_path, *SLEEP), LocalRunner()
    assert runner.submit(one) is True
    assert runner.cancel(one).state is State.CANCELLED


def test_an_attached_job_stays_in_our_group_and_ends_with_its_children(tmp_path):
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    one, runner = job(tmp_path, sys.executable, "-c", code, attached=True), LocalRunner()
    runner.submit(one)
    while not one.log.read_text().strip():
        time.sleep(0.02)
    pid, child = local.pid(one), int(one.log.read_text())
    assert os.getpgid(pid) == os.getpgid(child) == os.getpgid(0)
    assert (runner.address(one, 8000).host, runner.address(one, 8000).port) == ("127.0.0.1", 8000)
    assert runner.cancel(one).state is State.CANCELLED
    assert runner.address(one, 8000) is None
    for ended in (pid, child):
        assert has_ended(ended)
