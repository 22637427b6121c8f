"""The job of a training: what it mounts, what it runs, what it looks at first; as a container, under Slurm and as a
process."""

import json
import sys

import pytest

from slipway.config.model import ModelConfig
from slipway.config.target import DockerConfig, SlurmConfig, TargetConfig
from slipway.errors import ConfigError
from slipway.pipeline.stage import Workspace
from slipway.planning.training_memory import adapter_parameters
from slipway.stages.fetch import fetch
from slipway.store.artifacts import Checkpoint
from slipway.store.store import Store
from slipway.system.progress import Progress
from slipway.training.nemo.job import JobFiles, linked_folders, write_job
from slipway.training.nemo.params import STOP_S
from slipway.training.nemo.run_recipe import count_sequences, run_recipe
from tests.support.nemo import dataset_of, pico_params
from tests.support.pico import pico_model


@pytest.fixture
def files(tmp_path):
    store = Store(tmp_path / "store")
    model = pico_model(tmp_path / "blobs", layers=2)
    (tmp_path / "hub").mkdir()
    for file in model.iterdir():
        (tmp_path / "hub" / file.name).symlink_to(f"../blobs/{file.name}")  # as a hub's cache keeps them
    params = ModelConfig(name="pico", source="directory", directory=str(tmp_path / "hub"))
    with store.create(Checkpoint, "base", {}) as out, Progress() as progress:
        fetch(params, Workspace(out, tmp_path, tmp_path, progress))
    base, data = store.find(Checkpoint, "base"), dataset_of(store)

    def make(runner=None, gpus=0, **train):
        target = TargetConfig(
            name="t", gpus=gpus, gpu_memory_gb=80 if gpus else None, **({"runner": runner} if runner else {})
        )
        return JobFiles(
            base, data, tmp_path / "train_nemo-abc" / "nemo", pico_params(**train).model_copy(update={"target": target})
        )

    return make


def test_a_container_finds_everything_at_fixed_places(files, tmp_path):
    one = files(DockerConfig(kind="docker"), gpus=2)
    job = write_job(one, "the recipe")
    assert job.argv == ("python3", "/job/start.py", "--", "automodel", "/job/recipe.yaml", "--nproc-per-node", "2")
    assert (job.name, job.processes, job.stop_s) == ("slipway-train_nemo-abc", 2, STOP_S)
    assert {m.target: m.source for m in job.mounts if not m.read_only} == {"/ckpt": one.checkpoints}
    seen = {m.target: m.source for m in job.mounts if m.read_only}
    assert {k: seen[k] for k in ("/models/pico", "/data", "/job")} == {
        "/models/pico": one.base.path,
        "/data": one.data.path,
        "/job": one.job,
    }
    assert job.env["HF_HUB_OFFLINE"] == "1" and job.labels["slipway.stage"] == "train_nemo"
    assert (one.job / "recipe.yaml").read_text() == "the recipe"
    assert one.paths().model == "/models/pico" and one.paths().train == "/data/train.jsonl"


def test_a_model_kept_by_reference_is_mounted_at_every_hop_of_its_links(files, tmp_path):
    one = files(DockerConfig(kind="docker"))
    assert linked_folders(one.base.path) == [tmp_path / "blobs", tmp_path / "hub"]
    assert {str(m.source): m.target for m in one.mounts()}[str(tmp_path / "blobs")] == str(tmp_path / "blobs")


def test_without_a_container_the_job_sees_the_paths_themselves(files):
    local, slurm = files(), files(SlurmConfig(kind="slurm", container=False))
    assert local.mounts() == slurm.mounts() == ()
    assert write_job(local, "").argv[0] == sys.executable and write_job(slurm, "").argv[0] == "python3"
    assert local.paths().model == str(local.base.path) and local.paths().checkpoints == str(local.checkpoints)


def test_the_preflight_asks_for_room_for_every_checkpoint_kept(files):
    one = files(gpus=1, keep_checkpoints=3)
    write_job(one, "")
    wants = json.loads((one.job / "preflight.json").read_text())
    assert wants["gpus"] == 1 and wants["read"][1].endswith("train.jsonl")
    assert wants["write"]["free_bytes"] == 5 * 12 * adapter_parameters(one.params.model, one.params.train)


def test_no_validation_rows_no_validation(files):
    one = files()
    assert one.paths().validation.endswith("val.jsonl")
    (one.data.path / "val.jsonl").write_text("")
    assert one.paths().validation is None


def test_the_plan_counts_packs_steps_and_the_schedule_of_the_whole_run(files):
    recipe = run_recipe(files(epochs=2.5))
    assert (recipe.rows, recipe.steps) == (40, 8), "six packs, two a step: 2.5 x 3"
    assert "lr_decay_steps: 8" in recipe.text and "max_steps: 8" in recipe.text
    assert count_sequences(pico_params(packing="none").train, [10, 20]) == 2


def test_a_model_row_of_another_shape_is_refused(files):
    one = files()
    other = one.params.model_copy(update={"model": one.params.model.model_copy(update={"hidden": 4096})})
    with pytest.raises(ConfigError, match=r"model\.hidden: 4096; expected 64, as .*config\.json"):
        run_recipe(JobFiles(one.base, one.data, one.work, other))
