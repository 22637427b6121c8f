"""Figures of a stage that no machine of this store has made: by formula, and by a run that is on record with us.

    disk      fetch     bytes of the model directory; 2 bytes a parameter before it is there
              train     4 bytes a trained parameter (peft saves fp32 pairs), `planning.training_memory`
              merge     the base's small files, and its weights where `merge.materialize` writes them
              quantize  matrices at their format's bytes with scales (`FORMAT_BYTES`), embedding and head 2 bytes, as
                        OCP MX 1.0 and NVIDIA's NVFP4 lay blocks out; small files
              engine    the weights served, half the tokenizer (GGUF keeps its strings), 12.7 MB of llama-server
    time      on a GPU: training FLOPs (Kaplan et al. 2020, arXiv:2001.08361: 2 N a token forward, 2 N backward to the
              activations; 2 N again where layers are recomputed; 2 N for weight gradients in full fine-tuning) over the
              GPU's dense bf16 peak x the share that we measured on an H100 (`SHARES`)
              on a CPU: the same stage of the embedded model on 2 CPUs, `reference_runs.json`, scaled by amount (up to
              30 times) and by CPUs (up to 16)
    memory    of that run, where its amount is within a factor of two

They stand until one stage of the group has run here. What they are off by is in `slipway plan --errors`, apart from the
errors of learned figures. A quantity without a formula is 0: not known.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.errors import SlipwayError
from slipway.ops.chain.work import parameters_before
from slipway.pipeline.measurements import Figures, this_machine
from slipway.pipeline.stage import Work
from slipway.planning.model_shape import NAMES
from slipway.planning.peaks import PEAKS
from slipway.planning.serving_capacity import FORMAT_BYTES
from slipway.planning.serving_memory import model_config
from slipway.planning.training_memory import adapter_parameters, embedding_parameters, unknown_architecture
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.manifest import read_manifest

MOST_CPUS = 16  # stages do not get faster by more
MOST_TIMES = 30  # that an amount may differ from the run on record: widths change what a parameter costs
SERVER_BYTES = 12.7e6
TOKENIZER_BYTES = 72  # of tokenizer.json an entry: SmolLM2 72, Llama 3 71, Qwen 3 75
TRAINED_BYTES, BF16_BYTES = 4, 2
# Share of the peak in LoRA and QLoRA training, micro-batch 1, sequences of 2,048 to 8,192, on one H100: 8B 0.16 to 0.24
# (eight runs), 70B 0.41 and 0.44 (two)
SHARES = ((8.0, 0.19), (70.0, 0.42))


Inputs = Mapping[str, Artifact | None]


def first_figures(stage: str, work: Work | None, inputs: Inputs, config: Config, machine: str = "") -> Figures | None:
    """What a stage with these inputs (none: they are not made yet) takes on `machine` (empty: this one), quantity by
    quantity; None where nothing is known."""
    reference = _reference(work, machine or this_machine())
    try:
        disk = _disk(stage, work, inputs, config)
        seconds = _gpu_seconds(stage, work, inputs, config)
    except SlipwayError:  # a model that cannot be read: its own stage says so
        disk, seconds = 0.0, 0.0
    if stage == "train_nemo":
        return Figures(seconds, 0.0, disk) if seconds or disk else None
    figures = Figures(reference[0], reference[1], disk)
    return figures if any((figures.seconds, figures.peak_bytes, figures.disk_bytes)) else None


def share_of_peak(billions: float) -> float:
    """The share of a GPU's peak that training reaches, between the sizes that were measured on a straight line of
    logarithms; beyond them as at the nearest."""
    (small, low), (large, high) = SHARES
    at = math.log(min(max(billions, small), large) / small) / math.log(large / small)
    return math.exp(math.log(low) + at * math.log(high / low))


def flops_a_token(model: ModelConfig, method: str, checkpointing: str) -> float:
    """Floating-point operations of one trained token."""
    active = (model.active_b or model.parameters_b) * 1e9
    passes = 2 + (method == "sft") + (checkpointing == "full") + (checkpointing == "selective") * 0.5
    return 2 * active * passes


def training_seconds(model: ModelConfig, config: Config, target: TargetConfig, tokens: float) -> float:
    """Seconds that training on `tokens` takes on the target's GPUs; 0 for a GPU whose peak is not on record."""
    peak = PEAKS.get(target.compute_capability or "", 0.0) * max(1, target.gpus) * target.nodes
    if not peak:
        return 0.0
    needed = tokens * flops_a_token(model, config.train.method, config.train.activation_checkpointing)
    return needed / (peak * share_of_peak(model.parameters_b))


def _gpu_seconds(stage: str, work: Work | None, inputs: Inputs, config: Config) -> float:
    base = inputs.get("base")
    if stage != "train_nemo" or work is None or base is None or unknown_architecture(config.model):
        return 0.0
    count = float(base.summary.get("parameters", 0))
    tokens = work.amount / count if count else 0.0
    return training_seconds(config.model, config, config.target, tokens)


def _reference(work: Work | None, machine: str) -> tuple[float, float]:
    """Seconds and peak bytes by the run on record; zeros where it had no stage of this group."""
    if work is None or work.amount <= 0:
        return 0.0, 0.0
    cpus, rows = _reference_rows()
    amount, seconds, peak = rows.get(work.group, (0.0, 0.0, 0.0))
    if not amount:
        return 0.0, 0.0
    if not 1 / MOST_TIMES <= work.amount / amount <= MOST_TIMES:
        return 0.0, 0.0
    there = int(match[1]) if (match := re.search(r", (\d+) CPUs$", machine)) else cpus
    near = 0.5 <= amount / work.amount <= 2
    return seconds * work.amount / amount * cpus / min(there, MOST_CPUS), peak if near else 0.0


@functools.cache
def _reference_rows() -> tuple[int, dict[str, tuple[float, float, float]]]:
    text = resources.files("slipway.ops.chain").joinpath("reference_runs.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return int(document["cpus"]), {str(group): (float(a), float(s), float(p)) for group, a, s, p in document["rows"]}


def _disk(stage: str, work: Work | None, inputs: Inputs, config: Config) -> float:
    if stage == "fetch":
        return _fetched(config.model)
    model = next((one for name in ("checkpoint", "base") if (one := inputs.get(name))), None)
    directory = Path(config.model.directory or "").expanduser()
    shape, weights = shape_in(config.model, directory), parameters_before(config.model) * BF16_BYTES
    small = float(shape.vocabulary * TOKENIZER_BYTES)
    if model is not None:
        shape, (weights, small) = shape_in(config.model, model.path), _sizes(model)
        if not weights and work and work.unit == "parameters":  # a virtual checkpoint
            weights = work.amount * BF16_BYTES
    elif stage == "engine" and work and not work.group.endswith(" bf16"):
        weights = _quantized(shape, weights, config.quantize.format)
    if stage in ("train_cpu", "train_nemo"):
        layers = min(shape.layers, config.train.upper_layers or shape.layers)
        adapter = adapter_parameters(shape.model_copy(update={"layers": layers}), config.train) * TRAINED_BYTES
        return weights if config.train.method == "sft" else float(adapter)
    if stage == "merge":
        return small + (weights if config.merge.materialize else 0.0)
    if stage == "quantize":
        return small + _quantized(shape, weights, config.quantize.format)
    if stage == "engine" and config.engine.kind == "llama.cpp":
        return weights + small / 2 + SERVER_BYTES
    return 0.0


def _fetched(model: ModelConfig) -> float:
    directory = Path(model.directory or "").expanduser()
    if model.source != "directory" or not any(directory.glob("*.safetensors")):
        return model.parameters_b * 1e9 * BF16_BYTES + model.vocabulary * TOKENIZER_BYTES
    kinds = (".safetensors", ".json", ".model", ".txt", ".jinja", ".md")
    return float(sum(file.stat().st_size for file in directory.iterdir() if file.suffix in kinds))


def _quantized(shape: ModelConfig, weights: float, name: str) -> float:
    """Bytes of the matrices in a format, embedding and head as they are; 0 for a format without a figure."""
    stem = name.removesuffix("a16").removesuffix("-dynamic").removesuffix("-block")
    if stem not in FORMAT_BYTES:
        return 0.0
    kept = embedding_parameters(shape) * BF16_BYTES
    return kept + max(0.0, weights - kept) * FORMAT_BYTES[stem] / BF16_BYTES


def shape_in(model: ModelConfig, directory: Path) -> ModelConfig:
    """The row of conf/models with the sizes that the config.json of a model directory states; the row without one."""
    if not (directory / "config.json").is_file():
        return model
    config = model_config(directory)
    stated = {key: next((config[name] for name in names if name in config), None) for key, names in NAMES.items()}
    stated["intermediate"] = config.get("moe_intermediate_size", config.get("intermediate_size"))
    stated["head_dim"] = config.get("head_dim")
    return model.model_copy(update={key: value for key, value in stated.items() if value is not None})


def _sizes(artifact: Artifact) -> tuple[float, float]:
    """Bytes of an artifact's weights, 0 for a virtual checkpoint, and of its small files."""
    files = read_manifest(artifact.path)["files"] if (artifact.path / MANIFEST).is_file() else []
    weights = sum(file["size"] for file in files if file["path"].endswith((".safetensors", ".gguf")))
    return float(weights), float(sum(file["size"] for file in files) - weights)
