"""A finished adapter, proved to be one: readable, whole, finite, and about this base model."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.config.train import TrainConfig
from slipway.errors import AdapterError
from slipway.store.artifacts import Checkpoint
from slipway.system.files import write_atomic
from slipway.weights.adapter_config import CONFIG
from slipway.weights.adapter_tensors import WEIGHTS
from slipway.weights.base_names import BaseNames
from slipway.weights.checkpoint import open_checkpoint
from slipway.weights.lora import LoraAdapter
from slipway.weights.model_config import read_config


def check_adapter(directory: Path, base: Checkpoint, params: TrainConfig) -> int:
    """Trained parameters. Raises AdapterError naming file or tensor: cut short, NaN, of another rank, or on no base
    tensor."""
    adapter = LoraAdapter(directory)
    if not adapter.names():
        raise AdapterError(
            f"adapter {directory / WEIGHTS}", "no tensors", "a LoRA pair for each module in train.targets", _AGAIN
        )
    adapter.match(BaseNames(open_checkpoint(base), read_config(base.path)))
    if adapter.config["r"] != params.rank:
        raise AdapterError(f"r of {directory / CONFIG}", adapter.config["r"], f"train.rank={params.rank}", _AGAIN)
    return sum(adapter.read(name).numel() for name in adapter.names())


def name_base(file: Path, name: str) -> None:
    """Write the base's name over the path that the trainer saw, in an adapter's config; and names of modules in the
    order of the alphabet: PEFT holds them in sets, which each process writes in an order of its own."""
    doc = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": name}
    doc |= {key: sorted(doc[key]) for key in ("target_modules", "exclude_modules") if isinstance(doc.get(key), list)}
    write_atomic(file, json.dumps(doc, indent=2, sort_keys=True) + "\n")


_AGAIN = "delete the checkpoints in the stage's work folder and run again"
