"""Calibration data: sequences of one length out of training rows, the same for the same file, seed and tokenizer.

Rows in a random order, each as the model will read it (chat template, or `text`), are joined with an end-of-text token
and cut into sequences. No padding: every token is one the network would see.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer

from slipway.config.quantize import CalibrationConfig
from slipway.errors import CheckpointError, DataError


def calibration_tokens(file: Path, model_dir: Path, params: CalibrationConfig) -> torch.Tensor:
    """int64 [N, T] with N <= `params.samples`, T = `params.length`. Raises DataError naming file and line, or when it
    is too short, and CheckpointError when the model has no tokenizer."""
    tokenizer = _tokenizer(model_dir)
    texts = list(_texts(file, tokenizer))
    random.Random(params.seed).shuffle(texts)  # noqa: S311 (a reproducible choice, not a secret)
    wanted, ids = params.samples * params.length, list[int]()
    for text in texts:
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        if len(ids) >= wanted:
            break
    count = min(len(ids), wanted) // params.length
    if count == 0:
        raise DataError(
            f"calibration file {file}",
            f"{len(ids)} tokens",
            f"{params.length} or more",
            "add rows, or lower calibration.length",
        )
    return torch.tensor(ids[: count * params.length]).view(count, params.length)


def _tokenizer(model_dir: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(str(model_dir), local_files_only=True)
    except (OSError, ValueError) as err:
        raise CheckpointError(
            f"tokenizer of {model_dir}",
            str(err).splitlines()[0],
            "a tokenizer, to read calibration rows",
            "put the model's tokenizer.json there",
        ) from err


def _texts(file: Path, tokenizer: Any) -> Iterator[str]:
    if not file.is_file():
        raise DataError(
            "calibration file", f"{file} does not exist", "JSONL with `messages` or `text`", "check --calibration"
        )
    with file.open("rb") as lines:  # only a line feed ends a line: JSON strings may hold other separators
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _text(f"{file}:{number}", line, tokenizer)


def _text(where: str, line: bytes, tokenizer: Any) -> str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
        text = row["text"] if "text" in row else tokenizer.apply_chat_template(row["messages"], tokenize=False)
    except (ValueError, KeyError, TypeError, TemplateError) as err:
        raise DataError(
            where, f"{type(err).__name__}: {err}", "JSON with `messages` or `text`", "mend the line"
        ) from err
    if not isinstance(text, str):
        raise DataError(where, f"text is {type(text).__name__}", "a string", "mend the line")
    return text
