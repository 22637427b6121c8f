"""What a training job runs first: it looks before the model loads, and brings SIGTERM to those who train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipway.training.nemo import launcher

SAVES = """
import os, signal, sys, time
def save(*_):
    os.write(1, f"saved {os.environ.get('LOCAL_RANK')}\\n".encode())  # two workers write here: a line at once
    time.sleep(0.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
os.write(1, b"ready\\n")
time.sleep(60)
"""
LOADS = "import time; print('ready', flush=True); time.sleep(60)"
# As torchrun: catches SIGTERM itself, and would kill its workers; here it says so.
LAUNCHES = f"""
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: (print("launcher told", flush=True), os._exit(9)))
child = lambda rank: subprocess.Popen([sys.executable, "-c", {SAVES!r}], env={{**os.environ, "LOCAL_RANK": str(rank)}})
workers = [child(0), child(1)]
sys.exit(max(w.wait() for w in workers))
"""


@pytest.fixture
def entry(tmp_path):
    """Start a job with these wishes; the process and its output file."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "data").write_text("x")
    shutil.copyfile(launcher.__file__, tmp_path / "start.py")
    started = []

    def start(*command, **wishes):
        wants = {
            "gpus": 0,
            "read": [str(tmp_path / "data")],
            "write": {"checkpoints": str(tmp_path / "ckpt"), "free_bytes": 0},
            **wishes,
        }
        (tmp_path / "preflight.json").write_text(json.dumps(wants))
        argv = [sys.executable, "-S", str(tmp_path / "start.py"), "--", *command]
        with (tmp_path / "log.txt").open("w") as output:
            started.append(subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True))
        return started[-1], tmp_path / "log.txt"

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(file: Path, text: str, times: int = 1):
    deadline = time.monotonic() + 300
    while file.read_text().count(text) < times:
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.02)


def refused(process, log) -> dict[str, str]:
    assert process.wait(20) == launcher.EXIT_CODE
    _, marker, text = log.read_text().partition(launcher.FAILED)
    assert marker
    return json.loads(text)


def test_the_exit_code_is_the_commands(entry):
    process, _ = entry(sys.executable, "-c", "raise SystemExit(7)")
    assert process.wait(20) == 7
    process, _ = entry(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert process.wait(20) == 137


def test_no_gpu_is_said_before_anything_runs(entry):
    problem = refused(*entry(sys.executable, "-c", "raise SystemExit('ran')", gpus=1000))
    assert (
        problem["thing"] == "GPUs visible to the job"
        and problem["expected"].startswith("1000")
        and "nvidia-smi" in problem["next_step"]
    )


def test_a_mount_that_cannot_be_read_a_folder_that_cannot_be_written_and_a_full_disk(entry, tmp_path):
    run = (sys.executable, "-c", "raise SystemExit('ran')")
    assert refused(*entry(*run, read=["/nowhere/train.jsonl"]))["value"] == "No such file or directory"
    assert refused(*entry(*run, write={"checkpoints": "/proc", "free_bytes": 0}))["expected"] == "writable"
    full = refused(*entry(*run, write={"checkpoints": str(tmp_path / "ckpt"), "free_bytes": 10**18}))
    assert full["expected"] == "1000000000.0 GB for checkpoints" and "GB free" in full["value"]
    assert "automodel is not installed" in refused(*entry("automodel"))["value"]


def test_sigterm_reaches_every_worker_and_not_their_launcher(entry):
    process, log = entry(sys.executable, "-c", LAUNCHES)
    until(log, "ready", times=2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    output = log.read_text()
    assert "saved 0" in output and "saved 1" in output and "launcher told" not in output


def test_sigterm_while_the_model_still_loads_ends_all_at_once(entry):
    process, log = entry(sys.executable, "-c", LOADS)
    until(log, "ready")
    (child,) = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGTERM)  # as a runner does: the whole group
    assert process.wait(20) == 143
    assert not psutil.pid_exists(child.pid)


def test_a_group_told_as_a_whole_saves_once_per_worker(entry):
    process, log = entry(sys.executable, "-c", SAVES)
    until(log, "ready")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0
    assert "saved" in log.read_text()
