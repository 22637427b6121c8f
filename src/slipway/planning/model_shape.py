"""A model's shape as the config states it, against the `config.json` of its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.config.model import ModelConfig
from slipway.errors import ConfigError

# Key of the section `model` -> names that Hugging Face configs have for it.
NAMES = {
    "layers": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads", "num_attention_heads"),
    "vocabulary": ("vocab_size",),
    "tied_embeddings": ("tie_word_embeddings",),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "experts_per_token": ("num_experts_per_tok",),
}


def check_shape(model: ModelConfig, directory: Path) -> None:
    """Raises ConfigError naming both values where they differ: memory was planned for another model. Absent keys are
    not compared."""
    file = directory / "config.json"
    if not file.is_file():
        return
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    shape = {key: next((config[name] for name in names if name in config), None) for key, names in NAMES.items()}
    shape["intermediate"] = config.get("moe_intermediate_size", config.get("intermediate_size"))
    shape["head_dim"] = config.get("head_dim") if model.head_dim else None
    for key, value in shape.items():
        if value is not None and value != getattr(model, key):
            raise ConfigError(
                f"model.{key}",
                getattr(model, key),
                f"{value}, as {file} has it",
                f"set model.{key}={value}, or choose the row of conf/models that describes this model",
            )
