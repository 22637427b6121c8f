"""From a checkpoint, plain or merged on the fly, to a quantized model directory: what the stage and the CLI both call."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slipway import __version__, experts, layered
from slipway import plan as planning
from slipway.artifacts import sha256_bytes
from slipway.budget import Budget
from slipway.calibration import calibration_tokens
from slipway.config import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError, ResourceError
from slipway.formats import FORMATS
from slipway.fusion import module
from slipway.jobs import code_digest
from slipway.journal import NAME, Journal
from slipway.kernels import Kernels
from slipway.layouts import LAYOUTS, Layout, Scheme
from slipway.memory import PeakMemory
from slipway.model_files import copy_small_files
from slipway.plan import Plan, make_plan
from slipway.progress import Progress
from slipway.rounding import encoder
from slipway.shard_writer import ShardWriter, bytes_of
from slipway.shards import Shards, TensorSource, WeightSource
from slipway.stream import Job, Meter, WeightError, stream

_SCALARS = {"scalar", "input"}
_NOT_IN_THE_BYTES = {"memory_budget_gb", "workers", "compile", "device"}


def export(
    source: WeightSource,
    model_dir: Path,
    out: Path,
    params: QuantizeConfig,
    identity: Mapping[str, str],
    progress: Progress,
    calibration: Path | None = None,
) -> dict[str, Any]:
    """Write the quantized model into `out`, or go on where a killed run of the same job stopped. Returns figures.

    `model_dir` has config.json and the tokenizer; `identity` names weights and calibration data; `calibration` is JSONL with
    `messages` or `text`. The index is written last.
    Raises CheckpointError, ConfigError or ResourceError.
    """
    layout = LAYOUTS[params.layout]
    config = json.loads((model_dir / "config.json").read_text())
    plan = make_plan(
        source,
        FORMATS[params.format],
        params.exclude,
        params.rules,
        tied=bool(config.get("tie_word_embeddings")),
        hidden=hidden_size(config),
    )
    scheme = plan.scheme(__version__, kv_cache=params.kv_cache == "fp8")
    layout.require(scheme)
    needed = why_calibrate(plan, params)
    if needed and calibration is None:
        raise ConfigError(
            "calibration data",
            "none",
            f"rows to run through the network, for {needed}",
            "give --calibration FILE, or use a weight-only format",
        )
    tokens = calibration_tokens(calibration, model_dir, params.calibration) if needed and calibration else None
    figures, error = _run("quantize", source, model_dir, out, plan, params, identity, progress, tokens)
    _write_documents(model_dir, out, layout, scheme)
    bits = check_bits(Shards.open(out), source, plan, layout)
    (out / NAME).unlink()
    return {
        "format": params.format,
        "method": params.method,
        "layout": params.layout,
        "quantized_tensors": len(plan.formats),
        "bits_per_parameter": round(bits, 4),
        "relative_weight_mse": error.relative,
        **({} if tokens is None else {"calibration_tokens": tokens.numel(), "calibration_sha256": sha256_bytes(bytes(bytes_of(tokens)))}),
        **figures,
    }


def export_merged(
    source: WeightSource, model_dir: Path, out: Path, params: QuantizeConfig, identity: Mapping[str, str], progress: Progress
) -> dict[str, Any]:
    """Write the merged model in bf16 into `out`, resumable like `export`; of `params`, only where and how fast it runs counts."""
    figures, _ = _run("merge", source, model_dir, out, Plan({}, source.names(), []), params, identity, progress, None)
    copy_small_files(model_dir, out)
    Shards.open(out)
    (out / NAME).unlink()
    return figures


def _run(
    what: str,
    source: WeightSource,
    model_dir: Path,
    out: Path,
    plan: Plan,
    params: QuantizeConfig,
    identity: Mapping[str, str],
    progress: Progress,
    tokens: torch.Tensor | None,
) -> tuple[dict[str, Any], WeightError]:
    """One pass over the weights; the journal stays until the caller has checked the result."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    device, layout, units = _device(params.device), LAYOUTS[params.layout], plan.units(source)
    total = sum(unit.nbytes for unit in units)
    kernels = Kernels(device, params.compile, total)
    error = WeightError()
    outputs = planning.outputs(units, source, layout)
    if tokens is not None and params.kv_cache == "fp8":
        outputs |= planning.kv_outputs(source, layout)
    with (
        PeakMemory() as memory,
        Journal(out / NAME, {"what": what, **_identity(params), **identity}) as journal,
        ShardWriter(out, outputs, params.max_shard_gb * 1e9, journal) as writer,
    ):
        meter = Meter(what, total, progress)
        job = Job(source, layout, writer, device, kernels, meter, error)
        if tokens is None:
            stream(job, units, workers(params), Budget(params.memory_budget_gb * 1e9), encoder(params.method, kernels))
        else:
            layered.stream_layers(job, plan, tokens, model_dir, params, workers(params))
        before, passed = meter.seconds()
    figures = {
        "bytes": sum(file.stat().st_size for file in out.glob("*.safetensors")),
        "seconds": round(time.monotonic() - start, 2),
        "warm_up_s": round(before, 2),
        "gb_per_s": round(total / 1e9 / passed, 4),
        "peak_anonymous_gb": round(memory.peak / 1e9, 3),
        "device": str(device),
        "kernels": kernels.why,
    }
    return figures, error


def why_calibrate(plan: Plan, params: QuantizeConfig) -> str:
    """What of this job needs activations; empty if nothing does."""
    static = next((fmt.name for fmt in plan.formats.values() if fmt.activations == "static"), "")
    reasons = [f"the input scales of {static}" if static else "", "gptq" if params.method == "gptq" else ""]
    return ", ".join(reason for reason in [*reasons, "KV scales" if params.kv_cache == "fp8" else ""] if reason)


def hidden_size(config: Mapping[str, Any]) -> int:
    """The model's width, also of a config that nests its text model's."""
    return int({**config, **config.get("text_config", {})}.get("hidden_size", 0))


def workers(params: QuantizeConfig) -> int:
    """Threads that read, compute and write."""
    return params.workers or min(8, len(os.sched_getaffinity(0)))


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ResourceError("quantize.device", "cuda, but torch sees no GPU", "a GPU", "use --device cpu, or look at `slipway doctor`")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _identity(params: QuantizeConfig) -> dict[str, Any]:
    """What the bytes depend on beside weights and data: this code and the parameters, but not where or how fast it runs."""
    return {"tool": f"slipway {__version__} {code_digest('export')[:16]}", **params.model_dump(mode="json", exclude=_NOT_IN_THE_BYTES)}


def _write_documents(model_dir: Path, out: Path, layout: Layout, scheme: Scheme) -> None:
    """Tokenizer and configs; config.json says what the weights are."""
    copy_small_files(model_dir, out)
    quantization, document = layout.documents(scheme)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}, indent=2) + "\n")
    if document is not None:
        (out / "hf_quant_config.json").write_text(json.dumps(document, indent=4) + "\n")


def check_bits(written: TensorSource, source: TensorSource, plan: Plan, layout: Layout) -> float:
    """Average bits on disk per quantized parameter, block scales included.

    Raises CheckpointError when the bytes are not what the formats' labels say, tensor by tensor.
    """
    bits = parameters = 0.0
    for name, fmt in plan.formats.items():
        info = source.info(name)
        info = experts.logical(info) if len(info.shape) == 3 else info
        stored = [written.info(place.name) for role, place in layout.places(module(name), fmt, info).items() if role not in _SCALARS]
        found, channels = 8 * sum(t.nbytes for t in stored), 32 * info.numel / info.shape[-1] if fmt.name == "fp8-dynamic" else 0
        if abs(found - channels - fmt.bits * info.numel) > 0.01 * info.numel:
            raise CheckpointError(
                f"tensor {name}, labelled {fmt.name}", f"{found / info.numel:.3f} bits per parameter", f"{fmt.bits}",
                "report this: the label and the bytes disagree",
            )  # fmt: skip
        bits, parameters = bits + found, parameters + info.numel
    return bits / parameters if parameters else 0.0
