"""The small files of a Hugging Face model directory: config and tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from slipway.errors import CheckpointError
from slipway.system.files import write_atomic
from slipway.weights.checkpoint_files import weights_file
from slipway.weights.model_config import in_bf16, read_config

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def copy_small_files(source: Path, out: Path) -> None:
    """Config, generation config and tokenizer; the dtype in the config is what Slipway writes, bf16."""
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    config = in_bf16(read_config(source))
    config.pop("quantization_config", None)  # what the base was stored in
    write_atomic(out / "config.json", json.dumps(config, indent=2) + "\n")


def require_model(directory: Path, *, tokenizer: bool = True) -> None:
    """Raise CheckpointError unless this is a Hugging Face model directory with weights in safetensors."""
    if not directory.is_dir():
        raise CheckpointError("model.directory", f"{directory} does not exist", "a directory", _POINT_AT)
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"model directory {directory}", "no config.json", "a Hugging Face model", _POINT_AT)
    read_config(directory)
    weights_file(directory)
    if tokenizer and not any(
        (directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise CheckpointError(
            f"model directory {directory}", "no tokenizer", "tokenizer.json or tokenizer.model", _POINT_AT
        )


_POINT_AT = "set model.directory to a Hugging Face model directory with safetensors"
