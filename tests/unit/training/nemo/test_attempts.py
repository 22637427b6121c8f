"""Attempts at a training job: what its exit means, when it goes on, when it ends. The trainer is the lab's, in real
processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from slipway.errors import ConfigError, ResourceError, StageError
from slipway.runners.base import Job, Outcome, State
from slipway.runners.local import LocalRunner
from slipway.training.nemo.attempts import run_to_end
from slipway.training.nemo.checkpoints import steps_done
from slipway.training.nemo.launcher import FAILED
from slipway.training.nemo.log import TrainingLog
from tests.support.ended import has_ended

TRAINER = Path(__file__).resolve().parents[3] / "lab" / "trainer" / "automodel"


@pytest.fixture
def job(tmp_path):
    def make(steps=12, every=4, **env):
        (tmp_path / "ckpt").mkdir(exist_ok=True)
        recipe = {
            "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
            "step_scheduler": {"max_steps": steps, "ckpt_every_steps": every, "global_batch_size": 1},
            "checkpoint": {"checkpoint_dir": str(tmp_path / "ckpt"), "max_recent_checkpoints": 2},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        argv = (sys.executable, str(TRAINER), str(tmp_path / "recipe.yaml"), "--nproc-per-node", "1")
        return Job("train_nemo-1", argv, tmp_path, env={k: str(v) for k, v in env.items()}, stop_s=20)

    return make


def go(job, steps=12, look=lambda: None, runner=None, through=""):
    notes = []
    ended = run_to_end(
        runner or LocalRunner(), job, job.work / "ckpt", steps, look, notes.append, through=through, poll_s=0.02
    )
    return ended, notes


def test_one_attempt_is_enough_when_nothing_happens(job):
    ended, notes = go(job())
    assert (ended.attempts, notes) == (1, []) and ended.seconds > 0
    assert not (job().work / "process.json").exists(), "nothing of an ended job is kept"


def test_what_is_all_saved_is_not_run_again(job):
    go(job())
    log = job().log.read_text()
    ended, notes = go(job())
    assert (ended.attempts, notes, job().log.read_text()) == (0, [], log)


def test_a_job_that_was_refused_may_go_through_another_runner(job):
    class Refuses(LocalRunner):
        def submit(self, job):
            raise ConfigError("image", "none", "one", "pin it")

    with pytest.raises(ConfigError, match="pin it"):
        go(job(), runner=Refuses(), through="docker")
    assert go(job(), through="slurm")[0].attempts == 1


def test_exit_0_without_the_last_step_is_resumed(job):
    one, signalled = job(TRAINER_STEP_S=0.05), []

    def look():
        if not signalled and steps_done(one.work / "ckpt") >= 4:
            signalled.append(json.loads((one.work / "process.json").read_text())["pid"])
            os.kill(signalled[0], signal.SIGTERM)

    ended, notes = go(one, look=look)
    assert ended.attempts == 2 and "done (exit code 0)" in notes[0] and "of 12 steps saved; resuming" in notes[0]
    assert steps_done(one.work / "ckpt") == 12
    log = TrainingLog(one.work / "ckpt" / "training.jsonl", one.log)
    log.new_steps()
    assert [s["step"] for s in log.history()] == list(range(12))


class Flaky(LocalRunner):
    """Kills the trainer at its first attempts once it saved a step, and says what a cluster would."""

    def __init__(self, *states):
        super().__init__()
        self.states = list(states)

    def poll(self, job):
        if self.states and steps_done(job.work / "ckpt") > 4 * (3 - len(self.states)):
            os.kill(json.loads((job.work / "process.json").read_text())["pid"], signal.SIGKILL)
            while super().poll(job) is None:
                time.sleep(0.01)
            return Outcome(self.states.pop(0), None, "the cluster's words", 1.0)
        return super().poll(job)


def test_time_limit_preemption_and_a_lost_node_are_resumed(job):
    one = job(steps=16, TRAINER_STEP_S=0.03)
    ended, notes = go(one, 16, runner=Flaky(State.TIMEOUT, State.PREEMPTED, State.NODE_FAIL))
    assert ended.attempts == 4 and [n.split()[0] for n in notes] == ["timeout", "preempted", "node_fail"]


def test_the_same_failure_at_the_same_step_twice_is_an_error_with_the_last_words(job):
    one = job(TRAINER_DIE="5:3")
    with pytest.raises(
        StageError, match=r"(?s)exit code 3, 4 of 12 steps saved.*told to die after step 5 with 3.*run again to resume"
    ):
        go(one)
    assert len([x for x in one.log.read_text().splitlines() if "told to die" in x]) == 2


def test_attempts_that_save_nothing_end(job):
    with pytest.raises(StageError, match="0 of 12 steps saved"):
        go(job(TRAINER_DIE="1:0"))


def ends_with(job, code):
    return Job(job.name, (sys.executable, "-c", code), job.work, stop_s=5)


def test_out_of_memory_is_named_at_once_with_the_way_out(job):
    code = "raise SystemExit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB')"
    with pytest.raises(ResourceError, match=r"(?s)out of memory .*Tried to allocate.*slipway tune.*pack_length"):
        go(ends_with(job(), code))


def test_a_disk_that_fills_up_is_named_at_once(job):
    with pytest.raises(ResourceError, match=r"(?s)disk full .*0 of 12 steps saved.*keep_checkpoints"):
        go(ends_with(job(), "raise OSError(28, 'No space left on device')"))


def test_the_preflights_own_error_is_raised(job):
    problem = {
        "type": "ResourceError",
        "thing": "GPUs visible to the job",
        "value": "0",
        "expected": "1",
        "next_step": "look",
    }
    with pytest.raises(ResourceError, match="GPUs visible to the job: 0; expected 1"):
        go(ends_with(job(), f"import sys; print({FAILED!r}, {json.dumps(problem)!r}); sys.exit(78)"))
    ended, _ = go(job())
    assert ended.attempts == 1, "an error of an earlier run, still in the log, is not raised again"


FOLLOWER = """
import json, sys
from pathlib import Path
from slipway.runners.local import LocalRunner
from slipway.training.nemo.attempts import run_to_end
from slipway.runners.base import Job, stopped_by_sigterm
doc = json.loads(sys.argv[1])
job = Job(doc["name"], tuple(doc["argv"]), Path(doc["work"]), env=doc["env"], stop_s=20)
with stopped_by_sigterm():
    run_to_end(LocalRunner(), job, job.work / "ckpt", 40, lambda: None, print)
"""


def follower(one):
    doc = {"name": one.name, "argv": one.argv, "work": str(one.work), "env": dict(one.env)}
    return subprocess.Popen([sys.executable, "-c", FOLLOWER, json.dumps(doc)])


def until_saved(one, steps):
    deadline = time.monotonic() + 300
    while steps_done(one.work / "ckpt") < steps:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_to_the_follower_stops_the_job_which_saves_first(job):
    one = job(steps=40, every=10, TRAINER_STEP_S=0.1)
    process = follower(one)
    until_saved(one, 10)
    pid = json.loads((one.work / "process.json").read_text())["pid"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert has_ended(pid)
    assert 10 < steps_done(one.work / "ckpt") < 40, "saved at the step it was told, between two checkpoints"
    assert "stopped by SIGTERM" in one.log.read_text()


def test_a_job_whose_follower_was_killed_is_adopted_and_trains_nothing_twice(job):
    one = job(steps=40, every=10, TRAINER_STEP_S=0.05)
    process = follower(one)
    until_saved(one, 10)
    pid = json.loads((one.work / "process.json").read_text())["pid"]
    process.kill()
    process.wait()
    ended, _ = go(one, 40)
    assert ended.attempts == 1
    assert has_ended(pid)
    assert len([line for line in one.log.read_text().splitlines() if "| loss" in line]) == 40


def test_a_job_of_unknown_end_is_not_started_through_another_runner(job):
    one = job(TRAINER_STEP_S=0.02)
    process = follower(one)
    until_saved(one, 4)
    process.kill()
    process.wait()
    with pytest.raises(ConfigError, match=r"target\.runner: slurm; expected .*nobody saw it end"):
        go(one, through="slurm")
    assert go(one)[0].attempts == 1


def test_a_job_that_ended_while_nobody_followed_is_done(job):
    one = job(TRAINER_STEP_S=0.02)
    process = follower(one)
    until_saved(one, 4)
    process.kill()
    process.wait()
    until_saved(one, 12)
    assert has_ended(json.loads((one.work / "process.json").read_text())["pid"])
    ended, _ = go(one)
    assert ended.attempts == 1
    assert len([line for line in one.log.read_text().splitlines() if "| loss" in line]) == 12
