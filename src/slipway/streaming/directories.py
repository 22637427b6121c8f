"""Quantize or merge any Hugging Face directory, without a pipeline: no config files, no store, no orchestrator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path
from typing import Any

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ConfigError
from slipway.streaming.export import export, export_merged
from slipway.streaming.source_model import Model
from slipway.system.files import disk_full_is_named, sha256_file
from slipway.system.progress import Progress
from slipway.weights.adapter_config import CONFIG
from slipway.weights.adapter_tensors import PICKLED, WEIGHTS
from slipway.weights.dequantized import open_weights
from slipway.weights.journal import RESUME_FILE
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.model_config import read_config
from slipway.weights.model_files import merged_directory, require_model


def quantize_directory(
    model: Path, adapter: Path | None, calibration: Path | None, out: Path, params: QuantizeConfig, progress: Progress
) -> dict[str, Any]:
    """`model` (+ `adapter`) -> a quantized model directory `out`. Run again after a crash, it goes on. Returns
    figures."""
    with _opened(model, adapter, calibration, progress) as (opened, notes):
        _require_free(out, model)
        with disk_full_is_named(out):
            return {**export(opened, out, params, progress), **notes}


def merge_directory(
    model: Path, adapter: Path, out: Path, params: QuantizeConfig, progress: Progress
) -> dict[str, Any]:
    """`model` + `adapter` -> a bf16 model directory `out`. Run again after a crash, it goes on. Returns figures."""
    with _opened(model, adapter, None, progress) as (opened, notes):
        _require_free(out, model)
        with disk_full_is_named(out):
            return {**export_merged(opened, out, params, progress), **notes}


@contextmanager
def _opened(
    model: Path, adapter: Path | None, calibration: Path | None, progress: Progress
) -> Iterator[tuple[Model, dict[str, str]]]:
    """The model, merged when it is read, and what a person should know of it."""
    require_model(model, tokenizer=False)
    base = open_weights(model)
    identity = {"base": base.fingerprint()}
    if calibration:
        identity["calibration"] = _digest(calibration, "calibration file", "check --calibration")
    if adapter is None:
        yield Model(base, model, identity, calibration), {}
        return
    lora = LoraAdapter(adapter)
    for name in lora.names():
        lora.read(name)  # NaN and Inf are refused here, before anything is written
    merged = MergedSource(base, lora, read_config(model))
    with merged_directory(model, merged.config(), adapter) as (directory, notes):
        files = [adapter / name for name in (WEIGHTS, PICKLED, CONFIG) if (adapter / name).is_file()]
        identity["adapter"] = "".join(sha256_file(file) for file in [*files, *sorted(directory.rglob("*.*"))])
        notes = (*merged.notes(), *notes)
        for note in notes:
            progress.note(note)
        yield Model(merged, directory, identity, calibration), {"notes": ". ".join(notes)}


def _digest(file: Path, what: str, step: str) -> str:
    try:
        return sha256_file(file)
    except OSError as err:
        raise ConfigError(what, f"{file}: {err.strerror}", "a readable file", step) from err


def _require_free(out: Path, model: Path) -> None:
    """A finished checkpoint, or the model itself, is never written over; and what cannot be written is refused before a
    byte of weights is read."""
    try:
        _refuse_taken(out, model)
        if not out.exists():  # made and removed: a run that is killed in between leaves an empty directory, no more
            out.mkdir(parents=True)
            out.rmdir()
        elif not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(out))
    except (OSError, RuntimeError) as err:  # RuntimeError: links that lead to themselves
        reason = err.strerror if isinstance(err, OSError) else err
        expected = "a directory that can be made and written"
        raise ConfigError("--out", f"{out}: {reason}", expected, "choose another") from err


def _refuse_taken(out: Path, model: Path) -> None:
    if out.resolve() == model.resolve():
        raise ConfigError("--out", out, "another directory than the model's", "choose a new directory")
    if out.exists() and not out.is_dir():
        raise ConfigError("--out", f"{out} is a file", "a new or unfinished directory", "choose another")
    if out.exists() and not (out / RESUME_FILE).exists() and any(out.iterdir()):
        raise ConfigError(
            "--out", f"{out} is not empty", "a new or unfinished directory", "choose another, or delete it"
        )
