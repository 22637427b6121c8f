"""A model directory's config.json: read with its shape checked, and its dtype, wherever the config keeps it.

transformers 5 writes `dtype`, older releases `torch_dtype`, and classes with parts (text, vision) one in each part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError

CONFIG = "config.json"
_PARTS = ("text_config", "vision_config", "audio_config", "quantization_config")
_MAPPINGS = (*_PARTS, "rope_scaling", "rope_parameters")
_NUMBERS = ("hidden_size", "num_hidden_layers", "vocab_size")
_MEND = "mend or copy the file again"


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory; keys whose value is null are as if they were not there. Raises CheckpointError
    when it is missing, unreadable, no mapping, or holds another type than every class of transformers has there."""
    file = directory / CONFIG
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"model directory {directory}", f"no {CONFIG}", "a Hugging Face model", _MEND) from None
    except (OSError, ValueError, RecursionError) as err:
        raise CheckpointError(f"config {file}", str(err)[:200], "a readable file of JSON", _MEND) from err
    if not isinstance(document, dict):
        raise CheckpointError(f"config {file}", type(document).__name__, "a mapping", _MEND)
    _check(file, document)
    return document


def _check(file: Path, config: Mapping[str, Any], part: str = "") -> None:
    for key, value in config.items():
        expected = _expected(key)
        if value is None or not expected:
            continue
        kind, words = expected
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise CheckpointError(f"{part}{key} of config {file}", f"{value!r}"[:200], words, _MEND)
        if isinstance(value, int) and value < 0:
            raise CheckpointError(f"{part}{key} of config {file}", value, "a count", _MEND)
    listed = config.get("architectures")
    if listed is not None and not (isinstance(listed, list) and all(isinstance(name, str) for name in listed)):
        raise CheckpointError(f"{part}architectures of config {file}", f"{listed!r}"[:200], "a list of names", _MEND)
    for key in ("text_config", "vision_config"):
        if isinstance(config.get(key), dict):
            _check(file, config[key], f"{key}.")


def _expected(key: str) -> tuple[type, str] | None:
    if key in _MAPPINGS:
        return dict, "a mapping"
    if key in _NUMBERS:
        return int, "a whole number"
    if key == "tie_word_embeddings":
        return bool, "true or false"
    return (str, "a name") if key in ("model_type", "dtype", "torch_dtype") else None


def with_floats(value: Any) -> Any:
    """A config as its class takes it: `{"__float__": "Infinity"}`, which transformers 5 writes for what JSON lacks, as
    the float. A class refuses the mapping (`time_step_limit` of every Mamba)."""
    if isinstance(value, dict):
        tag = value.get("__float__") if len(value) == 1 else None
        if isinstance(tag, str) and tag in ("Infinity", "-Infinity", "NaN"):
            return float(tag)
        return {key: with_floats(part) for key, part in value.items()}
    return [with_floats(part) for part in value] if isinstance(value, list) else value


def in_bf16(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a model whose weights are written in bf16: every dtype that it states, also in its parts."""
    document = {key: value for key, value in config.items() if key != "torch_dtype"}
    for part in _PARTS[:3]:
        nested = document.get(part)
        if isinstance(nested, dict) and {"dtype", "torch_dtype"} & nested.keys():
            document[part] = in_bf16(nested)
    return {**document, "dtype": "bfloat16"}
