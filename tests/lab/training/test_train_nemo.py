"""Stage `train_nemo` through a real container engine and a real Slurm: the same recipe, the trainer's container,
everything mounted."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.errors import ResourceError
from slipway.ops.training_jobs import training_jobs
from slipway.pipeline.workspace import Workspace
from slipway.runners.docker_container import list_jobs
from slipway.stages.train_nemo import train_nemo
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import Store
from slipway.system.progress import Progress
from slipway.system.tail import Tail
from slipway.training.nemo import job as nemo_job
from slipway.training.nemo.checkpoints import steps_done
from tests.lab.slurm_lab import IMAGE
from tests.support.nemo import dataset_of, pico_params, wait_for
from tests.support.pico import pico_model


class Stage:
    """One stage and its folders; `go` runs it here, to its adapter."""

    def __init__(self, folder, params):
        self.folder, self.params, self.store = folder, params, Store(folder / "store")
        with self.store.create(Checkpoint, "base", {}) as out:
            pico_model(out, layers=2)
        self.inputs = {"base": self.store.find(Checkpoint, "base"), "data": dataset_of(self.store)}
        self.work = folder / f"train_nemo-{folder.name}"
        self.work.mkdir()

    @property
    def checkpoints(self):
        return self.work / "nemo" / "ckpt"

    @property
    def name(self):
        return f"slipway-{self.work.name}"

    def go(self):
        with self.store.create(Adapter, "adapter", {}) as out, Progress(self.folder / "progress.jsonl") as progress:
            train_nemo(**self.inputs, params=self.params, space=Workspace(out, self.work, self.folder, progress))
        return self.store.find(Adapter, "adapter")

    def notes(self):
        return [e["text"] for e in Tail(self.folder / "progress.jsonl").events() if e["event"] == "note"]

    def when_saved(self, steps, act):
        def watch():
            wait_for(lambda: steps_done(self.checkpoints) >= steps)
            act()

        threading.Thread(target=watch, daemon=True).start()


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(nemo_job, "QUIET", {**nemo_job.QUIET, "TRAINER_STEP_S": "0.15"})


@pytest.fixture
def in_container(podman_lab, tmp_path):
    def stage(gpus=0, **train):
        target = podman_lab.target(gpus=gpus, gpu_memory_gb=80 if gpus else None)
        params = pico_params(**train).model_copy(update={"target": target, "image": podman_lab.image})
        return Stage(tmp_path, params)

    yield stage
    assert list_jobs(podman_lab.host) == [], "no container is left, whatever happened"


def test_a_container_trains_and_the_adapter_says_of_which_image(in_container, podman_lab):
    stage = in_container()
    adapter = stage.go()
    assert adapter.summary["image_digest"] == podman_lab.image.digests[podman_lab.arch]
    assert adapter.summary["attempts"] == 1 and adapter.summary["steps"] == 9
    assert json.loads((adapter.path / "adapter_config.json").read_text())["base_model_name_or_path"] == "pico"
    assert "/models/pico" in (adapter.path / "recipe.yaml").read_text()


def test_a_container_stopped_by_somebody_is_resumed(in_container, podman_lab, slow):
    stage = in_container(epochs=10)
    stage.when_saved(2, lambda: podman_lab.podman("stop", "--time", "20", stage.name))
    adapter = stage.go()
    assert adapter.summary["attempts"] == 2 and adapter.summary["steps"] == 30
    assert next(n for n in stage.notes() if "resuming" in n).startswith("done")
    lines = [json.loads(x)["step"] for x in (adapter.path / "training.jsonl").read_text().splitlines()]
    assert lines == list(range(30))


def test_a_stage_told_to_stop_stops_its_container_with_a_checkpoint(in_container, slow):
    stage = in_container(epochs=20)
    stage.when_saved(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        stage.go()
    assert 2 < steps_done(stage.checkpoints) < 60
    assert "stopped by SIGTERM" in (stage.work / "nemo" / "log.txt").read_text()


def test_a_gpu_that_the_container_does_not_see_is_one_error(in_container):
    with pytest.raises(ResourceError, match=r"GPUs visible to the job: 0; expected 1.*nvidia-smi"):
        in_container(gpus=1).go()


def test_a_full_checkpoint_disk_is_said_before_the_model_loads(in_container):
    stage = in_container()
    stage.checkpoints.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", stage.checkpoints], check=True)
    try:
        with pytest.raises(ResourceError, match=r"checkpoint folder /ckpt in the job: 0\.0 GB free"):
            stage.go()
    finally:
        subprocess.run(["umount", stage.checkpoints], check=True)


ORCHESTRATOR = """
import json, sys
from pathlib import Path
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.store.store import Store
from slipway.training.nemo.params import NemoTrainParams
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
store, params = Store(Path(sys.argv[1])), NemoTrainParams.model_validate(json.loads(sys.argv[2]))
inputs = {"base": store.find(Checkpoint, "base"), "data": store.find(Dataset, "data")}
made = ensure(StageCall("train_nemo", inputs, params), store, store.root, LocalRunner(), lambda e: None)
print(made.artifact.uri)
"""


def test_a_container_whose_followers_were_killed_is_listed_and_adopted(in_container, podman_lab):
    stage = in_container(epochs=200)
    config = Config.model_validate(
        {"store": {"root": str(stage.store.root)}, "target": stage.params.target.model_dump()}
    )
    argv = [sys.executable, "-c", ORCHESTRATOR, str(stage.store.root), stage.params.model_dump_json()]
    first = subprocess.Popen(argv)
    work = wait_for(lambda: next((stage.store.root / "work").glob("train_nemo-*/nemo/ckpt/LATEST"), None)).parents[2]
    (job,), left = training_jobs(config)
    assert job.followed and left == []
    first.kill()
    os.kill(json.loads((work / "process.json").read_text())["pid"], signal.SIGKILL)
    first.wait()
    wait_for(lambda: not training_jobs(config)[0][0].followed)
    (job,), (row,) = training_jobs(config)
    assert job.name == f"slipway-{work.name}" and job.state == "running" and "trains unfollowed" in row["what"]
    again = subprocess.run(argv, capture_output=True, text=True, check=True)
    folder = Path(again.stdout.strip())
    assert json.loads((folder / "summary.json").read_text())["attempts"] == 1
    steps = [json.loads(x)["step"] for x in (folder / "training.jsonl").read_text().splitlines()]
    assert steps == list(range(600))
    assert training_jobs(config) == ([], [])


@pytest.fixture
def under_slurm(slurm_lab, tmp_path):
    runner = SlurmConfig(kind="slurm", poll_s=0.25, lease_s=6, patience_s=60)
    target = TargetConfig(name="lab", runner=runner)
    yield Stage(tmp_path, pico_params(epochs=8).model_copy(update={"target": target, "image": IMAGE}))
    assert slurm_lab.ask("squeue", "--noheader") == "", "no job is left, whatever happened"


def test_slurm_trains_the_same_recipe(under_slurm):
    adapter = under_slurm.go()
    assert adapter.summary["attempts"] == 1 and adapter.summary["steps"] == 24
    assert adapter.summary["image_digest"] == IMAGE.digests["amd64"]


# the signal may come while a command of Slurm runs, which then ends by itself
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stage_told_to_stop_cancels_its_slurm_job_with_a_checkpoint(under_slurm, slow):
    under_slurm.when_saved(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        under_slurm.go()
    assert 2 < steps_done(under_slurm.checkpoints) < 24
    adapter = under_slurm.go()
    assert adapter.summary["steps"] == 24, "run again, it resumes"
