"""The small files of a Hugging Face model directory: config and tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError
from slipway.system.files import write_atomic
from slipway.weights.shards import INDEX, SINGLE

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
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    write_atomic(out / "config.json", json.dumps({**config, "dtype": "bfloat16"}, indent=2) + "\n")


def require_model(directory: Path, *, tokenizer: bool = True) -> None:
    """Raise CheckpointError unless this is an unquantized Hugging Face model directory."""
    if not directory.is_dir():
        raise CheckpointError("model.directory", f"{directory} does not exist", "a directory", _POINT_AT)
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"model directory {directory}", "no config.json", "a Hugging Face model", _POINT_AT)
    if not (directory / INDEX).exists() and not (directory / SINGLE).exists():
        raise CheckpointError(f"model directory {directory}", "no safetensors", f"{SINGLE} or {INDEX}", _POINT_AT)
    if tokenizer and not any(
        (directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise CheckpointError(
            f"model directory {directory}", "no tokenizer", "tokenizer.json or tokenizer.model", _POINT_AT
        )
    config = _read_config(directory / "config.json")
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method")
        raise CheckpointError(
            f"model directory {directory}", f"already quantized ({method})", "bf16, fp16 or fp32 weights", _POINT_AT
        )


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as err:
        raise CheckpointError(f"config {file}", err, "JSON", "mend or copy the file again") from err
    if not isinstance(config, dict):
        raise CheckpointError(f"config {file}", type(config).__name__, "a mapping", "mend or copy the file again")
    return config


_POINT_AT = "set model.directory to a Hugging Face model directory with safetensors"
