"""From a checkpoint, plain or merged on the fly, to a quantized model directory: what the stage and the CLI both
call."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slipway import __version__
from slipway.config.quantize import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import fusion
from slipway.quantization.formats import FORMATS, SHARING_FORMATS
from slipway.quantization.layouts import GPT_OSS, Layout, Scheme, layout_named
from slipway.quantization.methods import encoder
from slipway.quantization.mixed_precision import assign_formats, table
from slipway.store.code_ahead import code_digest_of
from slipway.streaming import tensor_plan
from slipway.streaming.budget import Budget
from slipway.streaming.compute import Compute
from slipway.streaming.meter import Meter
from slipway.streaming.source_model import Model
from slipway.streaming.stream import Pass, stream
from slipway.streaming.tensor_plan import Plan, make_plan
from slipway.streaming.verify import check_bits
from slipway.streaming.weight_error import WeightError
from slipway.system.files import remove_half_written, sha256_bytes
from slipway.system.memory import PeakMemory
from slipway.system.progress import Progress
from slipway.weights.architecture import Role
from slipway.weights.dequantized import quantized_base, with_packed_experts
from slipway.weights.journal import RESUME_FILE, Journal
from slipway.weights.model_files import copy_small_files
from slipway.weights.shard_writer import ShardWriter, bytes_of
from slipway.weights.shards import Shards, TensorInfo, require_elements
from slipway.weights.weight_roles import WeightRoles

PRECISION = "precision.json"  # what max_bits measured and chose
_NOT_IN_THE_BYTES = {"memory_budget_gb", "workers", "compile", "device"}


def export(model: Model, out: Path, params: QuantizeConfig, progress: Progress) -> dict[str, Any]:
    """Write the quantized model into `out`, or go on where a killed run of the same job stopped. Returns figures.

    The index is written last. Raises CheckpointError, ConfigError, DataError or ResourceError.
    """
    require_elements(model.source)
    layout, compute = layout_named(params.layout), Compute.of(params, model.nbytes(), progress)
    model = _with_packed_experts(model, params)
    weights = _weights(model, params)
    plan = _plan(model, weights, params, params.rules)
    compute.progress.note(_kept(plan, weights))
    tokens = _tokens(model, plan, params)
    measured: list[dict[str, object]] = []
    if params.max_bits:
        from slipway.streaming.precision_survey import survey

        ladders = survey(model.source, model.directory, plan, params, tokens, compute)
        chosen = assign_formats(ladders, params.max_bits)
        plan, measured = _plan(model, weights, params, chosen), table(ladders, chosen)
    scheme = plan.scheme(__version__, kv_cache=params.kv_cache == "fp8")
    layout.require(scheme)
    kv = tensor_plan.kv_outputs(weights, layout) if tokens is not None and params.kv_cache == "fp8" else {}
    figures, error = _pass("quantize", model, out, plan, params, compute, tokens, kv)
    _write_documents(model.directory, out, layout, scheme)
    if measured:
        (out / PRECISION).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    bits = check_bits(Shards.open(out), model.source, plan, layout) or FORMATS[params.format].bits
    (out / RESUME_FILE).unlink()
    return {
        "format": params.format,
        "method": params.method,
        "layout": params.layout,
        **_fused_scales(plan, params),
        "quantized_tensors": len(plan.formats),
        "bits_per_parameter": round(bits, 4),
        "relative_weight_mse": error.relative,
        **({"rounded_by_mse_instead": len(error.without_gptq)} if error.without_gptq else {}),
        **(
            {}
            if tokens is None
            else {"calibration_tokens": tokens.numel(), "calibration_sha256": sha256_bytes(bytes(bytes_of(tokens)))}
        ),
        **figures,
    }


def export_merged(model: Model, out: Path, params: QuantizeConfig, progress: Progress) -> dict[str, Any]:
    """Write the merged model in bf16 into `out`, resumable like `export`; of `params`, only where and how fast it runs
    counts."""
    require_elements(model.source)
    plan = Plan({}, model.source.names(), [], model.weights().fp32)
    figures, _ = _pass("merge", model, out, plan, params, Compute.of(params, model.nbytes(), progress), None)
    _copy(model.directory, out)
    Shards.open(out)
    (out / RESUME_FILE).unlink()
    return figures


def _fused_scales(plan: Plan, params: QuantizeConfig) -> dict[str, str]:
    """Of a checkpoint with weights in `fp8`: whether fused projections share their scales."""
    if not any(fmt.name == "fp8" for fmt in plan.formats.values()):
        return {}
    return {"fused_scales": "shared" if params.fused_scales == "shared" else "own"}


def _kept(plan: Plan, weights: WeightRoles) -> str:
    """How many matrices are quantized, and what those are that are not, for a person."""
    unquantized = set(plan.unquantized)
    names = [name for name in plan.copied if fusion.module(name) in unquantized]
    counts = Counter(weights.roles.get(name, "other") for name in names)
    kept = ", ".join(f"{count} {role.replace('_', ' ')}" for role, count in sorted(counts.items()))
    return f"{len(plan.formats)} weights are quantized; kept: {kept or 'none'}"


def _with_packed_experts(model: Model, params: QuantizeConfig) -> Model:
    """In the layout of gpt-oss, experts that are MXFP4 already and that no adapter changes are written as they lie.
    Raises ConfigError for what looks at weights in another way."""
    if params.layout != GPT_OSS.name:
        return model
    if params.method != "max" or params.max_bits or params.kv_cache != "none" or params.format != "mxfp4":
        raise ConfigError(
            f"quantize.layout {params.layout}",
            f"format {params.format}, method {params.method}, max_bits {params.max_bits}, kv_cache {params.kv_cache}",
            "format mxfp4, method max, no max_bits, no KV scales",
            "set those, or use the layout modelopt",
        )
    return replace(model, source=with_packed_experts(model.source))


def _weights(model: Model, params: QuantizeConfig) -> WeightRoles:
    """What every tensor is; in the layout of gpt-oss, which holds experts alone, other matrices are kept."""
    weights = model.weights()
    if params.layout != GPT_OSS.name:
        return weights
    kept: dict[str, Role] = {name: "other" for name, role in weights.roles.items() if role in ("linear", "head")}
    return replace(weights, roles={**weights.roles, **kept})


def _plan(model: Model, weights: WeightRoles, params: QuantizeConfig, rules: Mapping[str, str]) -> Plan:
    """Raises CheckpointError for a model of which nothing can be quantized."""
    formats = SHARING_FORMATS if params.fused_scales == "shared" else FORMATS
    plan = make_plan(
        model.source, formats[params.format], params.exclude, rules, weights=weights, formats_by_name=formats
    )
    if not plan.formats and not quantized_base(model.source):
        kinds = sorted(set(weights.roles.values()) - {"other"})
        raise CheckpointError(
            f"model in {model.directory}, {weights.class_name}",
            f"no weight to quantize: its weights are {', '.join(kinds)}",
            "weights of Linears, [out, in]",
            "use an architecture made of Linears, or serve the merged model in bf16",
        )
    return plan


def _tokens(model: Model, plan: Plan, params: QuantizeConfig) -> torch.Tensor | None:
    """Calibration tokens int64 [N, T], where something needs them or a search can use them."""
    needed = why_calibrate(plan, params)
    if needed and model.calibration is None:
        raise ConfigError(
            "calibration data",
            "none",
            f"rows to run through the network, for {needed}",
            "give --calibration FILE, or use a weight-only format",
        )
    if model.calibration is None or not (needed or params.method == "mse" or params.max_bits):
        return None
    from slipway.calibration.sequences import calibration_tokens

    return calibration_tokens(model.calibration, model.directory, params.calibration)


def _pass(
    what: str,
    model: Model,
    out: Path,
    plan: Plan,
    params: QuantizeConfig,
    compute: Compute,
    tokens: torch.Tensor | None,
    kv: Mapping[str, TensorInfo] | None = None,
) -> tuple[dict[str, Any], WeightError]:
    """One pass over the weights; the journal stays until the caller has checked the result."""
    # Only where a network runs, and before the clock starts: transformers takes seconds to import.
    if tokens is not None:
        from slipway.streaming.calibrated_stream import stream_layers
    start, error = time.monotonic(), WeightError()
    out.mkdir(parents=True, exist_ok=True)
    layout, units = layout_named(params.layout), plan.units(model.source)
    total = sum(unit.nbytes for unit in units)
    outputs = {**tensor_plan.outputs(units, model.source, layout), **(kv or {})}
    with (
        PeakMemory() as memory,
        Journal(
            out / RESUME_FILE, {"what": what, **_identity(params), **_where(compute, tokens), **model.identity}
        ) as journal,
        ShardWriter(out, outputs, params.max_shard_gb * 1e9, journal, tensor_plan.parts(units, model.source)) as writer,
    ):
        remove_half_written(out)
        meter = Meter(what, total, compute.progress)
        pass_ = Pass(model.source, layout, writer, compute.device, compute.kernels, meter, error)
        if tokens is None:
            stream(
                pass_,
                units,
                compute.workers,
                Budget(params.memory_budget_gb * 1e9),
                encoder(params.method, compute.kernels),
            )
        else:
            stream_layers(pass_, plan, tokens, model.directory, params, compute.workers)
        before, passed = meter.seconds()
    figures = {
        "bytes": sum(file.stat().st_size for file in out.glob("*.safetensors")),
        "seconds": round(time.monotonic() - start, 2),
        "warm_up_s": round(before, 2),
        "gb_per_s": round(total / 1e9 / passed, 4),
        "peak_anonymous_gb": round(memory.peak / 1e9, 3),
        "device": str(compute.device),
        "kernels": compute.kernels.why,
    }
    return figures, error


def why_calibrate(plan: Plan, params: QuantizeConfig) -> str:
    """What of this job needs activations; empty if nothing does."""
    static = next((fmt.name for fmt in plan.formats.values() if fmt.activations == "static"), "")
    reasons = [f"the input scales of {static}" if static else "", "gptq" if params.method == "gptq" else ""]
    return ", ".join(reason for reason in [*reasons, "KV scales" if params.kv_cache == "fp8" else ""] if reason)


def _identity(params: QuantizeConfig) -> dict[str, Any]:
    """What the bytes depend on beside weights and data: this code and the parameters, but not where or how fast it
    runs."""
    return {
        "tool": f"slipway {__version__} {code_digest_of('streaming.export')[:16]}",
        **params.model_dump(mode="json", exclude=_NOT_IN_THE_BYTES),
    }


def _where(compute: Compute, tokens: torch.Tensor | None) -> dict[str, str]:
    """Scales and GPTQ come out of a network's matmuls, whose last bits a CPU and a GPU do not share: such a pass stays
    where it began."""
    return {} if tokens is None else {"device": compute.device.type}


def _write_documents(model_dir: Path, out: Path, layout: Layout, scheme: Scheme) -> None:
    """Tokenizer and configs; config.json says what the weights are."""
    _copy(model_dir, out)
    quantization, document = layout.documents(scheme)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(
        json.dumps({**config, "quantization_config": quantization}, indent=2) + "\n", encoding="utf-8"
    )
    if document is not None:
        (out / "hf_quant_config.json").write_text(json.dumps(document, indent=4) + "\n", encoding="utf-8")


def _copy(model_dir: Path, out: Path) -> None:
    """The small files, where they are not in `out` already."""
    if model_dir.resolve() != out.resolve():
        copy_small_files(model_dir, out)
