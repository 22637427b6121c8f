"""Small inputs for the stage `finetune`, and the lab's trainer that stands for NeMo where NeMo itself is not asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.store.artifacts import Dataset
from slipway.store.store import Store
from slipway.training.nemo.params import NemoTrainParams
from tests.support.pico import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS
from tests.support.world import write_rows

T = TypeVar("T")
TRAINER = Path(__file__).resolve().parents[1] / "lab" / "trainer" / "automodel"
SHAPE = {"hidden": HIDDEN, "intermediate": INTERMEDIATE, "heads": HEADS, "kv_heads": KV_HEADS, "parameters_b": 0.0002}


def pico_params(layers: int = 2, vocabulary: int = 384, **train: Any) -> NemoTrainParams:
    """LoRA of the pico model by NeMo on this machine's CPU: 2 sequences a step, a checkpoint every 2 steps."""
    settings = {
        "backend": "nemo",
        "method": "lora",
        "rank": 4,
        "alpha": 8,
        "pack_length": 512,
        "global_batch": 2,
        "lr": 1e-4,
        "epochs": 3,
        "checkpoint_every": 2,
        **train,
    }
    model = ModelConfig(
        name="pico", source="directory", directory="/pico", layers=layers, vocabulary=vocabulary, **SHAPE
    )
    return NemoTrainParams(train=TrainConfig.model_validate(settings), model=model, target=TargetConfig())


def dataset_of(store: Store) -> Dataset:
    """Forty rows to train on, eight to validate on."""
    with store.create(Dataset, "data", {}) as out:
        write_rows(out / "train.jsonl")
        rows = (out / "train.jsonl").read_text().splitlines(keepends=True)
        (out / "val.jsonl").write_text("".join(rows[::5]))
        (out / "summary.json").write_text(json.dumps({"rows": len(rows)}))
    dataset = store.find(Dataset, "data")
    assert dataset
    return dataset


def wait_for(condition: Callable[[], T], seconds: float = 300.0) -> T:
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return value
