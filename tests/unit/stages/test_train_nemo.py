"""Stage `train_nemo` for real with the lab's trainer as `automodel`: rendered, run, watched, verified."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from slipway.config.image import ImageConfig
from slipway.config.model import ModelConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.errors import ResourceError
from slipway.pipeline.stage import StageCall
from slipway.pipeline.workspace import Workspace
from slipway.stages.train_nemo import train_nemo
from slipway.store.artifacts import Checkpoint
from slipway.store.key import key_of
from slipway.store.store import Store
from slipway.system.files import sha256_file
from slipway.system.progress import Progress
from slipway.system.tail import Tail
from tests.support.nemo import TRAINER, dataset_of, pico_params
from tests.support.pico import pico_model


@pytest.fixture(autouse=True)
def automodel(monkeypatch):
    """The lab's trainer is what this machine calls `automodel`."""
    monkeypatch.setenv(
        "PATH", f"{TRAINER.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def inputs(tmp_path, store):
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, layers=2)
    return {"base": store.find(Checkpoint, "base"), "data": dataset_of(store)}


@pytest.fixture
def go(tmp_path, inputs):
    """Run the stage here; the folder that it filled, and its events."""

    def run(params):
        out, work = tmp_path / "out", tmp_path / "work"
        for folder in (out, work):
            folder.mkdir(exist_ok=True)
        with Progress(tmp_path / "progress.jsonl") as progress:
            train_nemo(**inputs, params=params, space=Workspace(out, work, tmp_path, progress))
        return out, list(Tail(tmp_path / "progress.jsonl").events())

    return run


def test_an_adapter_comes_with_its_log_recipe_and_summary(go):
    out, events = go(pico_params())
    assert {p.name for p in out.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "training.jsonl",
        "recipe.yaml",
        "summary.json",
    }
    config, summary = (
        json.loads((out / "adapter_config.json").read_text()),
        json.loads((out / "summary.json").read_text()),
    )
    assert config["base_model_name_or_path"] == "pico" and config["r"] == 4
    recipe, steps = yaml.safe_load((out / "recipe.yaml").read_text()), summary["steps"]
    assert recipe["step_scheduler"]["max_steps"] == recipe["lr_scheduler"]["lr_decay_steps"] == steps
    assert summary["recipe_sha256"] == sha256_file(out / "recipe.yaml")
    lines = [json.loads(x) for x in (out / "training.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(steps))
    assert summary["train_loss"] == lines[-1]["loss"] < lines[0]["loss"]
    assert summary["val_loss"] > 0 and summary["attempts"] == 1 and summary["image_digest"] is None
    pairs = [(64, 64), (64, 64), (32, 64), (32, 64), (128, 64), (128, 64), (64, 128)]
    assert summary["trainable_parameters"] == 2 * 4 * sum(rows + columns for rows, columns in pairs)
    metrics = [e for e in events if e["event"] == "metric"]
    assert [m["step"] for m in metrics] == [s + 1 for s in range(steps)] and metrics[0]["tokens_per_s"] > 0
    last = [e for e in events if e["event"] == "progress"][-1]
    assert last["done"] == last["total"] == steps and {"loss", "tokens_per_s", "memory_gib"} <= set(last)


def test_a_job_that_cannot_start_is_one_error(go, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ResourceError, match="training command: automodel is not installed"):
        go(pico_params())


def test_no_gpu_in_the_job_is_one_error(go, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    target = TargetConfig(name="here", gpus=4, gpu_memory_gb=80)
    with pytest.raises(ResourceError, match=r"GPUs visible to the job: 0; expected 4"):
        go(pico_params(global_batch=4).model_copy(update={"target": target}))


def test_the_key_covers_what_decides_the_bytes_and_not_how_the_machine_is_reached(inputs):
    one = pico_params()

    def key(**change):
        return key_of(StageCall("train_nemo", inputs, one.model_copy(update=change)).key_document())

    def target(**change):
        return one.target.model_copy(update=change)

    image = ImageConfig(
        repository="nvcr.io/nvidia/nemo-automodel", tag="26.10.00", digests={"amd64": "sha256:" + "1" * 64}
    )
    same = {
        key(),
        key(target=target(runner=SlurmConfig(kind="slurm", container=False))),
        key(target=target(reserve_gb=9.0, name="other")),
    }
    assert len(same) == 1
    other = image.model_copy(update={"digests": {"amd64": "sha256:" + "2" * 64}})
    different = [
        key(),
        key(image=image),
        key(image=other),
        key(target=target(gpus=2)),
        key(train=pico_params(lr=0.5).train),
        key(target=target(arch="arm64")),
        key(model=ModelConfig(name="x")),
    ]
    assert len(set(different)) == len(different)
    assert key(image=image) == key(image=image.model_copy(update={"tag": "latest"})), (
        "a tag is only where the digest was read"
    )
