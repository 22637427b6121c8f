"""Quantize or merge any Hugging Face directory, without a pipeline: no config files, no store, no orchestrator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ConfigError
from slipway.streaming.export import export, export_merged
from slipway.streaming.source_model import Model
from slipway.system.files import disk_full_is_named, sha256_file
from slipway.system.progress import Progress
from slipway.weights.dequantized import open_weights
from slipway.weights.journal import RESUME_FILE
from slipway.weights.lora import CONFIG, WEIGHTS, LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.model_files import require_model
from slipway.weights.shards import WeightSource


def quantize_directory(
    model: Path, adapter: Path | None, calibration: Path | None, out: Path, params: QuantizeConfig, progress: Progress
) -> dict[str, Any]:
    """`model` (+ `adapter`) -> a quantized model directory `out`. Run again after a crash, it goes on. Returns
    figures."""
    source, identity = _open(model, adapter)
    if calibration:
        identity["calibration"] = sha256_file(calibration)
    _require_free(out, model)
    with disk_full_is_named(out):
        return export(Model(source, model, identity, calibration), out, params, progress)


def merge_directory(
    model: Path, adapter: Path, out: Path, params: QuantizeConfig, progress: Progress
) -> dict[str, Any]:
    """`model` + `adapter` -> a bf16 model directory `out`. Run again after a crash, it goes on. Returns figures."""
    source, identity = _open(model, adapter)
    _require_free(out, model)
    with disk_full_is_named(out):
        return export_merged(Model(source, model, identity), out, params, progress)


def _open(model: Path, adapter: Path | None) -> tuple[WeightSource, dict[str, str]]:
    require_model(model, tokenizer=False)
    base = open_weights(model)
    identity = {"base": base.fingerprint()}
    if adapter is None:
        return base, identity
    lora = LoraAdapter(adapter)
    for name in lora.names():
        lora.read(name)  # NaN and Inf are refused here, before anything is written
    identity["adapter"] = sha256_file(adapter / WEIGHTS) + sha256_file(adapter / CONFIG)
    return MergedSource(base, lora), identity


def _require_free(out: Path, model: Path) -> None:
    """A finished checkpoint, or the model itself, is never written over."""
    if out.resolve() == model.resolve():
        raise ConfigError("--out", out, "another directory than the model's", "choose a new directory")
    if out.exists() and not out.is_dir():
        raise ConfigError("--out", f"{out} is a file", "a new or unfinished directory", "choose another")
    if out.exists() and not (out / RESUME_FILE).exists() and any(out.iterdir()):
        raise ConfigError(
            "--out", f"{out} is not empty", "a new or unfinished directory", "choose another, or delete it"
        )
