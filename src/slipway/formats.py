"""Quantized formats: what becomes of a Linear's weight, by name, and what the checkpoint's configs say of it.

A format sees a weight in bands of rows, so that its working memory does not grow with the model. The names, dtypes and
config documents are those of ModelOpt's unified Hugging Face export (nvidia-modelopt 0.47).

FP8: weight E4M3 = e4m3(bf16(W / s)), weight_scale s = max|W| / 448, fp32, per Linear: ModelOpt does not share it over
fused projections, and divides in bf16, one rounding more than needed, kept here to agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from slipway import fp4
from slipway.shards import TensorInfo

_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3"))  # runtimes run these as one matmul


class Format(Protocol):
    """A way to write a Linear's weight [O, I]. Outputs are named by suffix: `weight`, `weight_scale`, ..."""

    algorithm: str
    bits: float  # per weight, without the scalar scale
    fused: bool  # one scale over the projections of a fused matmul
    scale_name: str  # suffix of the fp32 scalar
    block: int  # input features must be a multiple of this

    def outputs(self, info: TensorInfo) -> dict[str, TensorInfo]:
        """Suffix -> what will be written beside the scalar."""

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The fp32 scalar for a largest magnitude."""

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs for a band of bf16 rows [R, I]."""

    def decode(self, outputs: Mapping[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        """fp32 [R, I] that a runtime would compute with."""

    def group_config(self) -> dict[str, Any]:
        """`config_groups.group_0` of config.json, without targets."""

    def extra_config(self) -> dict[str, Any]:
        """Keys beside quant_algo in hf_quant_config.json."""


class Nvfp4:
    """Weight-only NVFP4, block 16."""

    algorithm, bits, fused, scale_name, block = "W4A16_NVFP4", 4 + 8 / fp4.BLOCK, True, "weight_scale_2", fp4.BLOCK

    def outputs(self, info: TensorInfo) -> dict[str, TensorInfo]:
        rows, columns = info.shape
        return {
            "weight": TensorInfo(torch.uint8, (rows, columns // 2)),
            "weight_scale": TensorInfo(torch.float8_e4m3fn, (rows, columns // fp4.BLOCK)),
        }

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        return fp4.global_scale(amax)

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        packed, scales = fp4.quantize(rows, scale)
        return {"weight": packed, "weight_scale": scales}

    def decode(self, outputs: Mapping[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return fp4.dequantize(outputs["weight"], outputs["weight_scale"], scale)

    def group_config(self) -> dict[str, Any]:
        return {"weights": {"dynamic": False, "num_bits": 4, "type": "float", "group_size": fp4.BLOCK}}

    def extra_config(self) -> dict[str, Any]:
        return {"group_size": fp4.BLOCK}


class Fp8:
    """FP8 E4M3 weights with one scale each; activations are left to the runtime (no input_scale is written)."""

    algorithm, bits, fused, scale_name, block = "FP8", 8.0, False, "weight_scale", 1

    def outputs(self, info: TensorInfo) -> dict[str, TensorInfo]:
        return {"weight": TensorInfo(torch.float8_e4m3fn, info.shape)}

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        return amax.float() / fp4.E4M3_MAX

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        quotient = rows / scale if scale > 0 else torch.zeros_like(rows)
        return {"weight": quotient.to(torch.float8_e4m3fn)}

    def decode(self, outputs: Mapping[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return outputs["weight"].float() * scale

    def group_config(self) -> dict[str, Any]:
        tensor = {"dynamic": False, "num_bits": 8, "type": "float"}
        return {"input_activations": dict(tensor), "weights": dict(tensor)}

    def extra_config(self) -> dict[str, Any]:
        return {}


FORMATS: dict[str, Format] = {"nvfp4": Nvfp4(), "fp8": Fp8()}


def groups(names: Sequence[str], fmt: Format) -> list[list[str]]:
    """Weights that share a scale, in the order of `names`: fused projections of one parent together, others alone."""
    found: dict[tuple[str, object], list[str]] = {}
    for name in names:
        parent, _, leaf = name.removesuffix(".weight").rpartition(".")
        family: object = next((f for f in _FUSED if leaf in f), leaf) if fmt.fused else leaf
        found.setdefault((parent, family), []).append(name)
    return list(found.values())


def quantization_configs(fmt: Format, kept: Sequence[str], version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`quantization_config` of config.json, `hf_quant_config.json`); `kept` are the modules left in bf16."""
    producer = {"name": "slipway", "version": version}
    config = {
        "config_groups": {"group_0": {**fmt.group_config(), "targets": ["Linear"]}},
        "ignore": sorted(kept),
        "quant_algo": fmt.algorithm,
        "producer": producer,
        "quant_method": "modelopt",
    }
    quantization = {"quant_algo": fmt.algorithm, "kv_cache_quant_algo": None, **fmt.extra_config(), "exclude_modules": sorted(kept)}
    return config, {"producer": producer, "quantization": quantization}
