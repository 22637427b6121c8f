"""What `slipway status` says of training: jobs that run, jobs that nobody follows, machines that do not answer."""

import json
import subprocess
import sys

import psutil
import pytest

from slipway.config.load import Config
from slipway.config.target import DockerConfig, SlurmConfig, TargetConfig
from slipway.ops.training_jobs import training_jobs
from tests.support.nemo import pico_params


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield {"name": "x", "pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
    process.kill()
    process.wait()


def work(tmp_path, runner=None, key="0123456789abcdef"):
    folder = tmp_path / "work" / f"train_nemo-{key}"
    (folder / "nemo" / "ckpt" / "epoch_0_step_9" / "model").mkdir(parents=True)
    params = pico_params()
    if runner:
        params = params.model_copy(update={"target": TargetConfig(name="t", runner=runner)})
    (folder / "stage.json").write_text(json.dumps({"params": params.model_dump(mode="json")}))
    return folder


def config(tmp_path, **more):
    return Config.model_validate({"store": {"root": str(tmp_path)}, **more})


def test_a_followed_job_is_listed_and_no_leftover(tmp_path, sleeper):
    folder = work(tmp_path)
    for record in (folder / "process.json", folder / "nemo" / "process.json"):
        record.write_text(json.dumps(sleeper))
    (job,), left = training_jobs(config(tmp_path))
    assert (job.name, job.state, job.followed, job.saved) == (
        "slipway-train_nemo-0123456789abcdef",
        "running",
        True,
        10,
    )
    assert left == []


def test_a_job_without_its_stage_is_a_leftover_that_says_how_to_end_it(tmp_path, sleeper):
    folder = work(tmp_path)
    (folder / "nemo" / "process.json").write_text(json.dumps(sleeper))
    (job,), (left,) = training_jobs(config(tmp_path))
    assert not job.followed and f"process {sleeper['pid']} trains unfollowed (10 steps saved)" == left["what"]
    assert f"kill {sleeper['pid']}" in left["advice"]


def test_an_ended_job_and_a_folder_of_another_version_are_none(tmp_path, sleeper):
    work(tmp_path)
    broken = work(tmp_path, key="fedcba9876543210")
    (broken / "stage.json").write_text('{"params": {"rank": 3}}')
    (broken / "nemo" / "process.json").write_text(json.dumps(sleeper))
    assert training_jobs(config(tmp_path)) == ([], [])


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # docker leaves the socket of a refused connection open
def test_an_engine_and_a_controller_that_do_not_answer_are_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr("slipway.runners.docker_container.ANSWER_S", 0.1)
    monkeypatch.setenv("PATH", str(tmp_path))
    socket = f"unix://{tmp_path}/none.sock"
    work(tmp_path, DockerConfig(kind="docker", host=socket))
    slurm = work(tmp_path, SlurmConfig(kind="slurm"), key="fedcba9876543210")
    (slurm / "nemo" / "slurm.json").write_text('{"name": "n", "job_id": 7}')
    (job,), left = training_jobs(config(tmp_path, target={"runner": {"kind": "docker", "host": socket}}))
    assert job.where == "Slurm job 7" and job.state == "unknown"
    leftovers = " ".join(row["what"] for row in left)
    assert (
        f"docker engine {socket} does not answer" in leftovers
        and "Slurm does not answer: jobs there are not listed" in leftovers
    )
    assert len(left) == 3


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A squeue on PATH that prints these lines, for the format that list_jobs asks for."""
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()

    def prints(*lines):
        program.write_text("#!/bin/sh\ncat <<'END'\n" + "".join(f"{line}\n" for line in lines) + "END\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return prints


def test_slurm_jobs_that_nobody_follows_are_listed_and_so_are_those_of_no_known_store(tmp_path, squeue):
    name = "slipway-train_nemo-0123456789abcdef"
    folder = work(tmp_path, SlurmConfig(kind="slurm"))
    (folder / "nemo" / "slurm.json").write_text(json.dumps({"name": f"{name}.ab12", "job_id": 7}))
    squeue(
        f"7|RUNNING|1:02:03|slipway.run=r slipway.stage=train_nemo slipway.job={name}",
        "8|PENDING|0:00|slipway.run=q slipway.stage=train_nemo slipway.job=slipway-train_nemo-ffff",
        "9|RUNNING|5:00|somebody else's comment",
    )
    (job,), left = training_jobs(config(tmp_path))
    assert (job.name, job.where, job.state, job.followed, job.saved) == (name, "Slurm job 7", "RUNNING", False, 10)
    assert [row["what"] for row in left] == [
        "Slurm job 7 trains unfollowed (10 steps saved)",
        "Slurm job 8 slipway-train_nemo-ffff (PENDING, 0:00), which this store does not know",
    ]
    assert "scancel 7" in left[0]["advice"] and "scancel 8" in left[1]["advice"]


def test_a_job_whose_id_was_never_written_down_is_known_by_its_name(tmp_path, squeue):
    """sbatch was heard, and its caller died before it read the answer."""
    name = "slipway-train_nemo-0123456789abcdef"
    folder = work(tmp_path, SlurmConfig(kind="slurm"))
    (folder / "nemo" / "slurm.json").write_text(json.dumps({"name": f"{name}.ab12"}))
    squeue(f"7|PENDING|0:00|slipway.job={name}")
    (job,), (left,) = training_jobs(config(tmp_path))
    assert (job.where, job.state) == ("Slurm job 7", "PENDING") and "unfollowed" in left["what"]


def test_a_store_without_work_on_slurm_asks_it_when_the_target_is_slurm(tmp_path, squeue):
    squeue("8|PENDING|0:00|slipway.job=slipway-train_nemo-ffff")
    assert training_jobs(config(tmp_path)) == ([], [])
    jobs, (left,) = training_jobs(config(tmp_path, target={"runner": {"kind": "slurm"}}))
    assert jobs == [] and left["what"].startswith("Slurm job 8 ")
