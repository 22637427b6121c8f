"""Stage `quantize`: a checkpoint, virtual or not -> ModelOpt's unified HF export layout, one fused group in memory at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from slipway import __version__
from slipway.artifacts import Artifact, Checkpoint, Quantized
from slipway.checkpoints import model_dir, open_checkpoint
from slipway.config import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.formats import FORMATS, Format, groups, quantization_configs
from slipway.jobs import Workspace
from slipway.model_files import copy_small_files
from slipway.progress import Progress
from slipway.shard_writer import ShardWriter
from slipway.shards import Shards, TensorInfo, TensorSource

OUTPUT: type[Artifact] = Quantized
_NEVER = ("*embed*", "*wte", "*wpe", "*router*", "*.mlp.gate", "*block_sparse_moe.gate", "*shared_expert_gate")
_BAND = 1 << 20  # weights encoded at a time: intermediates stay in the CPU's cache
_SCALAR = TensorInfo(torch.float32, ())


@dataclass(frozen=True)
class Plan:
    """What becomes of every tensor: `linears` are quantized, `copied` go on in bf16, `kept` modules are named in the config."""

    linears: list[str]
    copied: list[str]
    kept: list[str]


@dataclass
class Error:
    """Sums for the relative squared error of the weights."""

    squared: float = 0.0
    reference: float = 0.0

    @property
    def relative(self) -> float:
        return self.squared / self.reference if self.reference else 0.0


def quantize(checkpoint: Checkpoint, params: QuantizeConfig, space: Workspace) -> None:
    """Write the quantized model directory into `space.out`. Raises CheckpointError or ConfigError."""
    start = time.monotonic()
    source, fmt = open_checkpoint(checkpoint), FORMATS[params.format]
    config = json.loads((model_dir(checkpoint) / "config.json").read_text())
    plan = make_plan(source, params.exclude, tied=bool(config.get("tie_word_embeddings")))
    error = Error()
    with ShardWriter(space.out, _outputs(source, plan, fmt), params.max_shard_gb * 1e9) as writer:
        _stream(source, plan, fmt, writer, error, space.progress)
    copy_small_files(model_dir(checkpoint), space.out)
    _write_configs(space, fmt, plan)
    seconds = time.monotonic() - start
    bits = bits_per_parameter(Shards.open(space.out), source, plan, fmt)
    written = sum(file.stat().st_size for file in space.out.glob("*.safetensors"))
    summary = {
        "format": params.format,
        "quant_algo": fmt.algorithm,
        "quantized_tensors": len(plan.linears),
        "bits_per_parameter": round(bits, 4),
        "bytes": written,
        "relative_weight_mse": error.relative,
        "seconds": round(seconds, 2),
        "gb_per_s": round(_nbytes(source, source.names()) / 1e9 / seconds, 4),
    }
    (space.out / "summary.json").write_text(json.dumps(summary) + "\n")


def make_plan(source: TensorSource, exclude: Iterable[str], *, tied: bool) -> Plan:
    """Sort tensors into quantized and kept. Raises ConfigError for a pattern that matches no module."""
    matrices = []
    for name in source.names():
        info = source.info(name)
        if len(info.shape) == 2 and info.dtype.is_floating_point and name.endswith(".weight"):
            matrices.append(name)
        elif len(info.shape) == 3 and info.dtype.is_floating_point:
            raise CheckpointError(f"tensor {name}", f"shape {list(info.shape)}", "2-D weights, one per expert", "split the experts first")
    modules = [name.removesuffix(".weight") for name in matrices] + (["lm_head"] if tied else [])
    for pattern in exclude:
        if not any(fnmatchcase(module, pattern) for module in modules):
            raise ConfigError(
                "quantize.exclude", pattern, "a pattern that matches a module of this model", f"modules are like {modules[0]}"
            )
    kept = {module for module in modules if any(fnmatchcase(module, pattern) for pattern in (*exclude, *_NEVER))}
    linears = [name for name in matrices if name.removesuffix(".weight") not in kept]
    left = set(linears)
    # a tied lm_head is the embedding: stored once, under the embedding's name
    copied = [name for name in source.names() if name not in left and not (tied and name == "lm_head.weight")]
    return Plan(linears, copied, sorted(kept | ({"lm_head"} if tied else set())))


def _outputs(source: TensorSource, plan: Plan, fmt: Format) -> dict[str, TensorInfo]:
    """Every tensor that will be written, in the order it is produced."""
    outputs = {}
    for group in groups(plan.linears, fmt):
        for name in group:
            _check_block(name, source.info(name).shape[1], fmt)
            prefix = name.removesuffix("weight")
            for suffix, info in fmt.outputs(source.info(name)).items():
                outputs[prefix + suffix] = info
            outputs[prefix + fmt.scale_name] = _SCALAR
    return outputs | {name: _rounded(source.info(name)) for name in plan.copied}


def _check_block(name: str, columns: int, fmt: Format) -> None:
    if columns % fmt.block:
        raise CheckpointError(
            f"tensor {name}", f"{columns} input features", f"a multiple of {fmt.block}, the block of {fmt.algorithm}",
            f"add {name.removesuffix('.weight')} to quantize.exclude, or use quantize.format=fp8",
        )  # fmt: skip


def _rounded(info: TensorInfo) -> TensorInfo:
    return TensorInfo(torch.bfloat16, info.shape) if info.dtype.is_floating_point else info


def _read(source: TensorSource, name: str) -> torch.Tensor:
    tensor = source.read(name)
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


def _stream(source: TensorSource, plan: Plan, fmt: Format, writer: ShardWriter, error: Error, progress: Progress) -> None:
    total, done, start = _nbytes(source, [*plan.linears, *plan.copied]), 0, time.monotonic()

    def advance(names: Iterable[str]) -> None:
        nonlocal done
        done += _nbytes(source, names)
        rate = done / max(time.monotonic() - start, 1e-6)
        progress.update("quantize", done, total, "bytes", gb_per_s=round(rate / 1e9, 3), eta_s=round((total - done) / rate, 1))

    for group in groups(plan.linears, fmt):
        weights = {name: _read(source, name) for name in group}
        scale = fmt.scale(torch.stack([weight.abs().amax() for weight in weights.values()]).amax())
        for name, weight in weights.items():
            prefix = name.removesuffix("weight")
            for suffix, tensor in encode(weight, scale, fmt, error).items():
                writer.write(prefix + suffix, tensor)
            writer.write(prefix + fmt.scale_name, scale)
        advance(group)
    for name in plan.copied:
        writer.write(name, _read(source, name))
        advance([name])


def encode(weight: torch.Tensor, scale: torch.Tensor, fmt: Format, error: Error) -> dict[str, torch.Tensor]:
    """Outputs of one weight [O, I], made in bands of rows; the squared error is added up on the way."""
    bands = []
    for rows in torch.split(weight, max(1, _BAND // weight.shape[1])):
        band = fmt.encode(rows, scale)
        exact = rows.float()
        error.reference += float(exact.square().sum(dtype=torch.float64))
        error.squared += float((exact - fmt.decode(band, scale)).square_().sum(dtype=torch.float64))
        bands.append(band)
    return {suffix: torch.cat([band[suffix] for band in bands]) for suffix in bands[0]}


def bits_per_parameter(written: TensorSource, source: TensorSource, plan: Plan, fmt: Format) -> float:
    """Bits on disk per quantized parameter, scales included. Raises CheckpointError when that is not what the label says."""
    parameters = sum(source.info(name).numel for name in plan.linears)
    modules = {name.removesuffix(".weight") for name in plan.linears}
    stored = [name for name in written.names() if name.rpartition(".")[0] in modules and not name.endswith(".bias")]
    scalars = 8 * _SCALAR.nbytes * len(plan.linears)
    bits = 8 * _nbytes(written, stored) / parameters if parameters else 0.0
    expected = fmt.bits + scalars / parameters if parameters else 0.0
    if abs(bits - expected) > 0.01:
        raise CheckpointError(
            f"quantized checkpoint labelled {fmt.algorithm}", f"{bits:.3f} bits per quantized parameter", f"{expected:.3f}",
            "report this: the label and the bytes disagree",
        )  # fmt: skip
    return bits


def _nbytes(source: TensorSource, names: Iterable[str]) -> int:
    return sum(source.info(name).nbytes for name in names)


def _write_configs(space: Workspace, fmt: Format, plan: Plan) -> None:
    quantization, document = quantization_configs(fmt, plan.kept, __version__)
    (space.out / "hf_quant_config.json").write_text(json.dumps(document, indent=4) + "\n")
    config: Mapping[str, Any] = json.loads((space.out / "config.json").read_text())
    (space.out / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}, indent=2) + "\n")
