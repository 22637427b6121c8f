"""What the runner makes of a Slurm that is silent or knows nothing; everything else is proved on a real one
(tests/lab)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.target import SlurmConfig, TargetConfig
from slipway.errors import ConfigError, ResourceError
from slipway.runners import slurm
from slipway.runners.base import Job, State
from slipway.runners.slurm import SlurmRunner
from tests.unit.runners.test_slurm_commands import slurm_says

DOWN = "!slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
GONE = "!slurm_load_jobs error: Invalid job id specified\n"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("slipway-x", ("automodel", "r.yaml"), tmp_path / "work")


def runner(patience_s: float = 0.0) -> SlurmRunner:
    return SlurmRunner(
        SlurmConfig(kind="slurm", container=False, poll_s=0, patience_s=patience_s), TargetConfig(), None
    )


def recorded(job: Job, **record: object) -> Path:
    job.work.mkdir(exist_ok=True)
    file = job.work / "slurm.json"
    file.write_text(json.dumps({"name": "slipway-x.ab", **record}))
    return file


def test_silence_is_waited_out_then_said_and_the_job_stays_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    slurm_says(monkeypatch, tmp_path, scontrol=DOWN)
    file = recorded(job, job_id=7)
    patient = runner(patience_s=60)
    assert patient.submit(job) is True
    assert patient.poll(job) is None
    with pytest.raises(ResourceError, match=r"Unable to contact slurm controller.*the job is found by its name"):
        runner().poll(job)
    assert json.loads(file.read_text())["job_id"] == 7


def test_a_submission_of_unknown_fate_is_not_repeated_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    """The record has a name and no id: without an answer about the name there is no second sbatch."""
    slurm_says(monkeypatch, tmp_path, squeue=DOWN, sbatch="8\n")
    file = recorded(job)
    with pytest.raises(ResourceError, match="Unable to contact"):
        runner().submit(job)
    assert json.loads(file.read_text()) == {"name": "slipway-x.ab"}
    slurm_says(monkeypatch, tmp_path, squeue="", sacct="", sbatch="8;cluster\n")
    assert runner().submit(job) is False
    assert json.loads(file.read_text()) == {"name": "slipway-x.ab", "job_id": 8}


def test_a_job_that_slurm_forgot_ends_by_its_own_record_or_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    monkeypatch.setattr(slurm, "SETTLE_S", -1.0)
    slurm_says(monkeypatch, tmp_path, scontrol=GONE, sacct="")
    recorded(job, job_id=7)
    lost = runner().poll(job)
    assert lost is not None
    assert (lost.state, lost.reason) == (State.LOST, "Slurm knows no job 7")
    (job.work / "exit").write_text("7.0 0 limit\n7.1 139 \n")
    own = runner().poll(job)
    assert own is not None
    assert (own.state, own.code, own.reason) == (State.FAILED, -11, "FAILED, signal 11")


def test_accounting_that_speaks_of_the_attempt_before_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job
) -> None:
    ended = "JobId=7 JobState=COMPLETED Reason=None RunTime=00:00:09 ExitCode=0:0\n"
    slurm_says(monkeypatch, tmp_path, scontrol=ended, sacct="7|PREEMPTED|0:0|5|None|\n")
    recorded(job, job_id=7)
    waiting = runner()
    assert waiting.poll(job) is None  # accounting lags
    slurm_says(monkeypatch, tmp_path, scontrol=ended, sacct="7|COMPLETED|0:0|9|None|\n")
    outcome = waiting.poll(job)
    assert outcome is not None
    assert (outcome.state, outcome.seconds) == (State.DONE, 9.0)


def test_a_job_that_slurm_holds_for_good_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Job) -> None:
    """Seen when the controller was killed before it saved that the job runs: it launches it again, and the node
    refuses."""
    held = "JobId=7 JobState=PENDING Reason=launch_failed_requeued_held RunTime=00:00:00 ExitCode=0:0\n"
    slurm_says(monkeypatch, tmp_path, scontrol=held)
    file = recorded(job, job_id=7)
    with pytest.raises(ResourceError, match=r"launch_failed_requeued_held.*scontrol release 7"):
        runner().poll(job)
    assert json.loads(file.read_text())["job_id"] == 7


def test_what_cannot_be_rendered_is_refused_before_anything_is_recorded(job: Job) -> None:
    boxed = SlurmRunner(SlurmConfig(kind="slurm"), TargetConfig(), None)
    with pytest.raises(ConfigError, match="slipway pin"):
        boxed.submit(job)
    assert not (job.work / "slurm.json").exists()
