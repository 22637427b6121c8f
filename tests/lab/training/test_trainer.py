"""The lab's trainer keeps the file contract that the runners' tests lean on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file

from tests.lab.trainer_run import AUTOMODEL, steps_logged, write_recipe, write_rows
from tests.support.pico import HIDDEN, INTERMEDIATE, LAYERS, TARGETS, pico_model


def train(recipe, **env):
    return subprocess.run(
        [sys.executable, AUTOMODEL, recipe], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def rows(tmp_path):
    return str(write_rows(tmp_path / "train.jsonl"))


def test_it_learns_and_ends_at_the_last_step(tmp_path, rows):
    ckpt = tmp_path / "ckpt"
    done = train(
        write_recipe(
            tmp_path / "r.yaml", str(ckpt), rows, max_steps=20, validation_dataset={"path_or_dataset_id": rows}
        )
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (ckpt / "training.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == list(range(20))
    assert lines[0]["loss"] == pytest.approx(5.545, abs=1e-3) and lines[-1]["loss"] < 4
    assert (ckpt / "LATEST").resolve().name.endswith("_step_19") and (ckpt / "LOWEST_VAL" / "losses.json").exists()
    assert len(list(ckpt.glob("epoch_*"))) == 3


def test_an_interrupted_run_resumed_equals_the_whole_one(tmp_path, rows):
    """SIGTERM exits 0 unfinished; the rerun goes on with the first run's schedule to the same weights."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(write_recipe(tmp_path / "w.yaml", str(whole), rows)).returncode == 0
    recipe = write_recipe(tmp_path / "c.yaml", str(cut), rows)
    running = subprocess.Popen(
        [sys.executable, AUTOMODEL, recipe], env={**os.environ, "TRAINER_STEP_S": "0.15", "TRAINER_BUFFER": "1"}
    )
    while not (cut / "training.jsonl").exists() or len(steps_logged(cut)) < 2:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert 2 <= len(steps_logged(cut)) < 12
    assert train(recipe).returncode == 0
    assert steps_logged(cut) == list(range(12))
    a, b = (load_file(d / "LATEST" / "model" / "adapter_model.safetensors") for d in (whole, cut))
    assert all((a[k] == b[k]).all() for k in a)


def test_a_save_that_was_interrupted_is_not_resumed_from(tmp_path, rows):
    ckpt = tmp_path / "ckpt"
    recipe = write_recipe(tmp_path / "r.yaml", str(ckpt), rows, max_steps=8)
    running = subprocess.Popen([sys.executable, AUTOMODEL, recipe], env={**os.environ, "TRAINER_SAVE_S": "60"})
    while not list(ckpt.glob("epoch_0_step_3/model/adapter_model.safetensors")):
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert (ckpt / "epoch_0_step_3" / ".incomplete").exists() and not (ckpt / "LATEST").exists()
    done = train(recipe)
    assert done.returncode == 0 and "Loading checkpoint" not in done.stderr


def test_the_adapter_has_the_shapes_of_the_base(tmp_path, rows):
    pico_model(tmp_path / "model")
    model = {"model": {"pretrained_model_name_or_path": str(tmp_path / "model")}}
    done = train(write_recipe(tmp_path / "r.yaml", str(tmp_path / "ckpt"), rows, max_steps=2, **model))
    assert done.returncode == 0, done.stderr
    adapter = load_file(tmp_path / "ckpt" / "LATEST" / "model" / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.3.mlp.down_proj"
    assert adapter[f"{prefix}.lora_A.weight"].shape == (4, INTERMEDIATE) and adapter[
        f"{prefix}.lora_B.weight"
    ].shape == (HIDDEN, 4)
    assert len(adapter) == 2 * LAYERS * len(TARGETS)
    config = json.loads((tmp_path / "ckpt" / "LATEST" / "model" / "adapter_config.json").read_text())
    assert config["r"] == 4 and len(config["target_modules"]) == LAYERS * len(TARGETS)


def test_told_to_die_it_dies(tmp_path, rows):
    recipe = write_recipe(tmp_path / "r.yaml", str(tmp_path / "ckpt"), rows)
    assert train(recipe, TRAINER_DIE="5:7").returncode == 7
    assert train(recipe, TRAINER_DIE="5:-9").returncode == -9
    assert (
        train(write_recipe(tmp_path / "x.yaml", str(tmp_path / "c2"), str(tmp_path / "absent.jsonl"))).returncode == 1
    )
