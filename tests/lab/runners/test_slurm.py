"""The Slurm runner against a real Slurm of two nodes: requeues, preemption, dead daemons, lost orchestrators, one
writer."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.errors import ResourceError
from slipway.ops.training_jobs import training_jobs
from slipway.runners import slurm
from slipway.runners.base import Job, Mount, State
from slipway.runners.slurm import SlurmRunner
from slipway.runners.slurm_commands import by_accounting, by_controller, find_named, list_jobs
from tests.lab.slurm_lab import SlurmLab, Work, ended, slurm_id, wait_for

LIMITED_STEPS = 45


@pytest.fixture(scope="module", autouse=True)
def limited(slurm_lab: SlurmLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Work, SlurmRunner, Job]]:
    """A job whose time limit ends it, while the other tests run: Slurm counts in minutes and looks every 30 s."""
    work = Work(tmp_path_factory.mktemp("limit"), "limited", max_steps=LIMITED_STEPS, every=100, step_s=1.0)
    runner = slurm_lab.runner(time_limit="00:01:00", signal_s=25, extra=["--nodelist=n2"])
    job = work.job()
    runner.submit(job)
    yield work, runner, job
    runner.cancel(job)


def test_one_node_in_a_container_that_sees_what_is_mounted(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = Work(tmp_path, "one"), slurm_lab.runner(gpus=2)
    check = (
        f'test ! -e {tmp_path} && ! touch /data/x 2> /dev/null && test "$PWD" = /tmp && test '
        '"$SLURM_GPUS_ON_NODE" = 2 && exec automodel "$@"'
    )
    job = work.job(("bash", "-c", check, "check", "/job/recipe.yaml", "--nproc-per-node", "1"))
    assert runner.submit(job) is False
    outcome = ended(runner, job)
    assert (outcome.state, outcome.code) == (State.DONE, 0), job.log.read_text()
    assert work.finished()
    assert work.steps() == list(range(12))
    assert "step 11 |" in job.log.read_text()
    comment = slurm_lab.ask("squeue", "--noheader", "--states=all", "--format=%k", "--jobs", slurm_id(job))
    assert comment == "slipway.run=lab slipway.stage=train_nemo slipway.job=one"


def test_two_nodes_meet_through_torchrun(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = Work(tmp_path, "two", max_steps=5), slurm_lab.runner(nodes=2)
    job = work.job()
    runner.submit(job)
    outcome = ended(runner, job, 120)
    log = job.log.read_text()
    assert outcome.state is State.DONE, log
    assert work.finished()
    assert log.count("step 4 |") == 2  # both workers trained, and one wrote
    assert work.steps() == list(range(5))
    assert {p.name for p in (job.work / "fence").glob("end-*")} == {"end-1.0", "end-1.1"}


@pytest.mark.parametrize(("die", "code"), [("2:7", 7), ("2:-9", -9)])
def test_a_failure_keeps_its_code_and_accounting_agrees_with_the_controller(
    slurm_lab: SlurmLab, tmp_path: Path, die: str, code: int
) -> None:
    runner, job = slurm_lab.runner(), Work(tmp_path, f"fails{abs(code)}", env={"TRAINER_DIE": die}).job()
    runner.submit(job)
    outcome = ended(runner, job)
    assert (outcome.state, outcome.code, outcome.reason) == (
        State.FAILED,
        code,
        "FAILED, exit code 7" if code == 7 else "FAILED, signal 9",
    )
    controller, accounting = by_controller(int(slurm_id(job))), by_accounting(int(slurm_id(job)))
    assert (
        controller is not None
        and accounting is not None
        and controller.outcome is not None
        and accounting.outcome is not None
    )
    assert controller.state == accounting.state == "FAILED"
    # sacct shows 137 as `9`, the controller as 137: what the job's own script wrote counts
    assert (controller.outcome.code, accounting.outcome.code) == ((7, 7) if code == 7 else (137, 9))


def test_what_slurm_refuses_is_said_once_with_its_words(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    runner, job = slurm_lab.runner(partition="nowhere"), Work(tmp_path, "refused").job()
    with pytest.raises(ResourceError, match="invalid partition"):
        runner.submit(job)
    assert slurm_lab.job_ids("refused") == []


def test_cancel_saves_first_and_nothing_comes_back(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = Work(tmp_path, "cancelled", max_steps=500, every=1000, step_s=0.2), slurm_lab.runner()
    job = work.job()
    runner.submit(job)
    wait_for(lambda: len(work.steps()) > 2)
    outcome = runner.cancel(job)
    assert outcome.state is State.CANCELLED
    assert runner.poll(job) == outcome
    assert (work.checkpoints / "LATEST" / "model" / "adapter_model.safetensors").exists()
    assert by_controller(int(slurm_id(job))).outcome is not None  # ended, not requeued


def test_a_waiting_job_is_cancelled_at_once_and_scancel_by_somebody_is_seen(
    slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    runner, job = slurm_lab.runner(extra=["--begin=now+1hour"]), Work(tmp_path, "waits", stop_s=300).job()
    runner.submit(job)
    assert runner.poll(job) is None
    assert runner.cancel(job).state is State.CANCELLED
    work, runner = Work(tmp_path, "scancelled", max_steps=500, step_s=0.2), slurm_lab.runner()
    job = work.job()
    runner.submit(job)
    wait_for(work.steps)
    slurm_lab.ask("scancel", slurm_id(job))
    outcome = ended(runner, job)
    assert outcome.state is State.CANCELLED
    assert outcome.reason.startswith("CANCELLED by 0")


def test_a_preempted_job_saves_comes_back_and_finishes(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = (
        Work(tmp_path, "pushed", max_steps=40, every=100, step_s=0.2),
        slurm_lab.runner(gpus=2, partition="preemptible", extra=["--nodelist=n1"]),
    )
    job = work.job()
    runner.submit(job)
    wait_for(lambda: len(work.steps()) > 3)
    pushing, high = Work(tmp_path, "pushes", max_steps=4), slurm_lab.runner(gpus=2, extra=["--nodelist=n1"])
    high.submit(pushing.job())
    assert ended(high, pushing.job()).state is State.DONE
    assert ended(runner, job).state is State.DONE
    assert work.finished()
    assert sorted(work.steps()) == list(range(40))
    assert len(slurm_lab.job_ids("pushed")) == 1
    assert slurm_lab.ask("squeue", "--noheader", "--states=all", "--format=%A", "--name", name_of(job)) == slurm_id(job)
    attempts = [line.split() for line in (job.work / "exit").read_text().splitlines()]
    assert [line[0].partition(".")[2] for line in attempts] == ["0", "1"]
    assert attempts[0][2] == "told"


def test_a_dead_node_daemon_leaves_no_second_writer(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    """kill -9 of slurmd: Slurm requeues the job to the other node while the first attempt's processes live and
    write."""
    work, runner = Work(tmp_path, "orphaned", max_steps=60, every=10, step_s=0.3, save_s=0.1), slurm_lab.runner()
    argv = (
        "bash",
        "-c",
        'TRAINER_TOKEN=$SLIPWAY_FENCE exec automodel "$@"',
        "stamped",
        "/job/recipe.yaml",
        "--nproc-per-node",
        "1",
    )
    plain = work.job(argv, TRAINER_STAMPS="/stamps/writes")
    (tmp_path / "stamps").mkdir()
    job = replace(plain, mounts=(*plain.mounts, Mount(tmp_path / "stamps", "/stamps", read_only=False)))
    runner.submit(job)
    wait_for(lambda: len(work.steps()) > 12)
    assert slurm_lab.ask("squeue", "--noheader", "--format=%N", "--jobs", slurm_id(job)) == "n1"
    assert {j.name: (j.state, j.run, j.stage) for j in list_jobs()}["orphaned"] == ("RUNNING", "lab", "train_nemo")
    slurm_lab.part("n1", "kill")
    killed = time.time()
    time.sleep(2)
    # what the controller finds out by itself after SlurmdTimeout: the node is down, its jobs are requeued
    slurm_lab.ask("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=daemon is gone")
    try:
        assert ended(runner, job, 120).state is State.DONE
    finally:
        slurm_lab.part("n1", "start")
        slurm_lab.ask("scontrol", "update", "NodeName=n1", "State=RESUME")
    stamps = [json.loads(line) for line in (tmp_path / "stamps" / "writes").read_text().splitlines()]
    attempts = [list(group) for _, group in itertools.groupby(stamps, key=lambda s: s["token"])]
    assert len(attempts) == 2, "two writers in turn"  # each token once: no write of the first after one of the second
    assert attempts[0][-1]["time"] - killed > 1.0, "the old process did live on and write"
    assert attempts[1][0]["time"] > attempts[0][-1]["time"]
    assert len({s["pid"] for s in stamps}) == 2
    assert work.finished()
    assert sorted(set(work.steps())) == list(range(60))
    assert attempts[1][0]["step"] > 0, "it resumed"
    assert len(slurm_lab.job_ids("orphaned")) == 1


ORCHESTRATOR = """
import pickle, sys, time
runner, job = pickle.load(open(sys.argv[1], "rb"))
runner.submit(job)
while runner.poll(job) is None: time.sleep(0.1)
"""


def test_a_killed_orchestrator_s_job_is_adopted(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    import pickle

    work = Work(tmp_path, "adopted", max_steps=40, step_s=0.1)
    job = work.job()
    (tmp_path / "p").write_bytes(pickle.dumps((slurm_lab.runner(), job)))
    first = subprocess.Popen([sys.executable, "-c", ORCHESTRATOR, str(tmp_path / "p")])
    wait_for(work.steps)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    # What `slipway status` of a store that does not know the job says meanwhile.
    config = Config.model_validate(
        {"store": {"root": str(tmp_path / "store")}, "target": {"runner": {"kind": "slurm"}}}
    )
    _, leftovers = training_jobs(config)
    stranger = f"Slurm job {slurm_id(job)} adopted (RUNNING"
    assert [row for row in leftovers if row["what"].startswith(stranger)], leftovers
    second = slurm_lab.runner()
    assert second.submit(job) is True
    assert ended(second, job).state is State.DONE
    assert work.steps() == list(range(40))
    assert slurm_lab.job_ids("adopted") == [slurm_id(job)]


def test_a_submission_that_was_heard_but_not_recorded_is_found_by_its_name(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    """Killed between sbatch's answer and the record of it, and a second sbatch that came through after all."""
    work, runner = Work(tmp_path, "heard", max_steps=30, step_s=0.1), slurm_lab.runner()
    job = work.job()
    runner.submit(job)
    wait_for(work.steps)
    job_id, record = slurm_id(job), job.work / "slurm.json"
    record.write_text(json.dumps({"name": name_of(job)}))
    slurm_lab.ask("sbatch", "--begin=now+1hour", str(job.work / "job.sbatch"))
    second = slurm_lab.runner()
    assert second.submit(job) is True
    assert slurm_id(job) == job_id
    assert ended(second, job).state is State.DONE
    states = {f.job_id: f.state.split()[0] for f in find_named(name_of(job))}
    assert sorted(states.values()) == ["CANCELLED", "COMPLETED"]


def test_an_end_that_nobody_saw_is_told_until_it_is_forgotten(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    job = Work(tmp_path, "unseen", env={"TRAINER_DIE": "1:3"}).job()
    slurm_lab.runner().submit(job)
    wait_for(lambda: by_controller(int(slurm_id(job))).outcome)
    later = slurm_lab.runner()
    assert later.submit(job) is True
    assert ended(later, job).code == 3
    assert len(slurm_lab.job_ids("unseen")) == 1
    assert later.submit(job) is False  # its end was read: this is the next attempt
    assert ended(later, job).code == 3
    later.forget(job)
    assert slurm_lab.runner().submit(job) is False
    assert len(slurm_lab.job_ids("unseen")) == 3


def test_a_controller_that_is_down_for_a_while_loses_nothing(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = Work(tmp_path, "outlives", max_steps=160, step_s=0.1), slurm_lab.runner()
    job, late = work.job(), Work(tmp_path, "late", max_steps=4).job()
    runner.submit(job)
    wait_for(work.steps)
    slurm_lab.part(
        "slurmctld", "stop"
    )  # as for an upgrade; killed, it forgets what it had not saved and holds what runs
    try:
        submitting = threading.Thread(target=runner.submit, args=(late,))
        submitting.start()
        with pytest.raises(ResourceError, match=r"Unable to contact slurm controller.*within 1 s"):
            slurm_lab.runner(patience_s=1).submit(Work(tmp_path, "never").job())
        assert runner.poll(job) is None
    finally:
        slurm_lab.part("slurmctld", "start")
    assert ended(runner, job).state is State.DONE
    assert work.steps() == list(range(160))
    submitting.join(60)
    assert ended(runner, late).state is State.DONE
    assert len(slurm_lab.job_ids("late")) == 1
    assert slurm_lab.job_ids("never") == []


def test_without_accounting_the_controller_s_word_counts(
    slurm_lab: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "SETTLE_S", 1.0)
    runner, job = slurm_lab.runner(), Work(tmp_path, "unaccounted", env={"TRAINER_DIE": "1:5"}).job()
    slurm_lab.part("slurmdbd", "stop")
    try:
        runner.submit(job)
        assert ended(runner, job).code == 5
    finally:
        slurm_lab.part("slurmdbd", "start")


def test_without_a_container_the_node_s_own_trainer_runs(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    work, runner = Work(tmp_path, "bare"), slurm_lab.runner(container=False)
    job = work.outside()
    runner.submit(job)
    assert ended(runner, job).state is State.DONE, job.log.read_text()
    assert work.finished()


def test_a_time_limit_stops_saves_requeues_and_the_job_finishes(
    slurm_lab: SlurmLab, limited: tuple[Work, SlurmRunner, Job]
) -> None:
    work, runner, job = limited
    assert ended(runner, job, 150).state is State.DONE
    assert work.finished()
    assert sorted(work.steps()) == list(range(LIMITED_STEPS))  # every step once: it went on where it saved
    attempts = [line.split() for line in (job.work / "exit").read_text().splitlines()]
    assert len(attempts) >= 2
    assert all(line[1:] == ["0", "limit"] for line in attempts[:-1])
    assert len(slurm_lab.job_ids("limited")) == 1


def name_of(job: Job) -> str:
    return str(json.loads((job.work / "slurm.json").read_text())["name"])
