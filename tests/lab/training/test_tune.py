"""`slipway tune` on NeMo itself, on the CPU: settings changed in place are the real ones, and the command finds one of
them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import load_config
from slipway.config.train import NEMO_DEFAULTS
from slipway.data.rows import read_rows
from slipway.training.nemo.recipe import RecipePaths, render
from slipway.training.tuning.synthetic_rows import write_synthetic
from tests.support.nemo import pico_params
from tests.support.pico import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, pico_model

ROOT = Path(__file__).resolve().parents[3]
LAYERS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_model(tmp_path_factory.mktemp("tune") / "pico", layers=LAYERS)


def run(lab: Any, folder: Path, *argv: object, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "tests/lab/nemo/always"), str(ROOT / "tests/lab/nemo"), str(ROOT / "src")])
    env = {**os.environ, **lab, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-P", *map(str, argv)], cwd=folder, env=env, capture_output=True, text=True, timeout=seconds
    )


def test_a_setting_reached_in_place_is_the_one_set_up(nemo_lab: Any, model: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "rows.jsonl", 400, longest=40)
    params = pico_params(LAYERS, method="qlora")
    paths = RecipePaths(str(model), str(tmp_path / "rows.jsonl"), None, str(tmp_path / "ckpt"))
    recipe = render(params.model, params.train, params.target, paths, steps=10)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    ran = run(nemo_lab, tmp_path, ROOT / "tests/lab/nemo/switched.py", tmp_path / "recipe.json")
    assert ran.returncode == 0, ran.stderr[-3000:]
    report = json.loads(ran.stdout.splitlines()[-1])
    assert set(report) == {"none", "selective", "full"}
    for mode, was in report.items():
        assert (was["tree"], was["loss"], was["same"]) == (True, True, True), (mode, was)
        assert was["gradients"] == 2 * 7 * LAYERS
    assert report["selective"]["wrapped"] == LAYERS
    assert report["none"] | {"wrapped": 0, "recomputes": False} == report["none"]
    assert report["full"]["recomputes"] or report["full"]["wrapped"]


def test_the_command_probes_the_real_recipe_and_writes_a_row(nemo_lab: Any, model: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "rows.jsonl", 3000, longest=40)
    words = {
        "train.pack_length": 512,
        "model.layers": LAYERS,
        "model.hidden": HIDDEN,
        "model.intermediate": INTERMEDIATE,
        "model.heads": HEADS,
        "model.kv_heads": KV_HEADS,
        "model.vocabulary": 384,
        "model.parameters_b": 0.0002,
        "target.gpu_memory_gb": 20,
    }
    # A machine that is too slow for two probes gets more time, a quick one is not kept
    for budget in (40, 160, 640):
        ran = run(
            nemo_lab,
            tmp_path,
            *("-m", "slipway", "tune", "--method", "qlora", "--target", "dgx-h100", "--here", "--model-dir", model),
            *("--data", tmp_path / "rows.jsonl", "--work", tmp_path / "work", "--out", tmp_path / "tuned.yaml"),
            *("--budget-s", budget, "--conf", ROOT / "conf", "--json"),
            *(f"{k}={v}" for k, v in words.items()),
            seconds=budget + 600,
        )
        if ran.returncode == 0 and len(json.loads(ran.stdout)["probes"]) >= 2:
            break
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    report = json.loads(ran.stdout)
    assert report["probes"][0] == report["baseline"]
    assert (report["baseline"]["pack_length"], report["baseline"]["activation_checkpointing"]) == (512, "full")
    assert len(report["probes"]) >= 2
    assert report["best"]["tokens_per_s"] >= report["baseline"]["tokens_per_s"] > 0
    assert "flash_attention_2" in report["absent"]
    assert len(read_rows(tmp_path / "work" / "train.jsonl")) > 10
    (tmp_path / "conf" / "train").mkdir(parents=True)
    (tmp_path / "conf" / "base.yaml").write_text("layers: {train: train/tuned}\n")
    (tmp_path / "conf" / "train" / "tuned.yaml").write_text((tmp_path / "tuned.yaml").read_text())
    train = load_config(tmp_path / "conf").train
    assert (train.backend, train.pack_length) == ("nemo", report["best"]["pack_length"])
    assert train.activation_checkpointing == report["best"]["activation_checkpointing"]
    assert train.lr == NEMO_DEFAULTS["lr"]
    assert not [
        p
        for p in Path("/proc").glob("[0-9]*/cmdline")
        if b"slipway.training.tuning.probe" in _read(p) and str(tmp_path).encode() in _read(p)
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
