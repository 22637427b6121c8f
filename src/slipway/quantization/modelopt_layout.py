"""The layout of nvidia-modelopt 0.47's unified Hugging Face export, which TensorRT-LLM, vLLM and SGLang load.

Differences from its files, all on purpose: the producer's name, and MXFP4 is refused, its label `mxfp4` being unknown
to every runtime. `places` has an input scale for every format with static activations: without it vLLM loads an FP8 or
NVFP4 checkpoint all the same, and computes with the smallest float as scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch

from slipway.errors import ConfigError
from slipway.quantization import fp4, fp8, fusion
from slipway.quantization.formats import Format, Role
from slipway.quantization.scheme import Place, Scheme, require_one_format_a_unit
from slipway.weights.shards import TensorInfo

ALGORITHMS = {"nvfp4": "NVFP4", "nvfp4a16": "W4A16_NVFP4", "fp8": "FP8", "fp8-dynamic": "FP8_PER_CHANNEL_PER_TOKEN"}
_MIXABLE = {"nvfp4", "nvfp4a16", "fp8"}  # in vLLM's MIXED_PRECISION
_SCALAR = TensorInfo(torch.float32, ())


class ModelOpt:
    """Tensors beside `weight`; stacked experts [E, O, I] as [E, I, O], named without `.weight`, as transformers keeps
    them."""

    name = "modelopt"

    def require(self, scheme: Scheme) -> None:
        """Raise ConfigError for a format without a label, for formats that may not be mixed, and when weights that a
        runtime fuses have different formats."""
        names = set(scheme.by_format())
        if unknown := names - ALGORITHMS.keys():
            raise ConfigError(
                f"layout {self.name}",
                f"format {min(unknown)}",
                "a label that a runtime knows: one of " + ", ".join(sorted(ALGORITHMS)),
                "use the layout compressed-tensors",
            )
        if len(names) > 1 and not names <= _MIXABLE:
            raise ConfigError(
                f"layout {self.name}",
                f"{' and '.join(sorted(names))} in one model",
                "a mixture of " + ", ".join(sorted(_MIXABLE)),
                "use the layout compressed-tensors, or other formats",
            )
        require_one_format_a_unit(scheme)

    def places(self, module: str, fmt: Format, info: TensorInfo) -> dict[Role, Place]:
        """Name, dtype and shape on disk of every role of a weight; stacked experts are stored as [E, I, O]."""
        stacked = len(info.shape) == 3
        prefix = f"{module}_" if stacked else f"{module}."
        places: dict[Role, Place] = {}
        for role, output in fmt.outputs(info).items():
            name = module if stacked and role == "weight" else prefix + _suffix(fmt, role)
            places[role] = Place(name, TensorInfo(output.dtype, _transposed(output.shape)) if stacked else output)
        if fmt.scalar:
            places["scalar"] = Place(prefix + _suffix(fmt, "scalar"), _SCALAR)
        if fmt.activations == "static":
            places["input"] = Place(prefix + _suffix(fmt, "input"), _SCALAR)
        return places

    def store(self, fmt: Format, role: Role, value: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """A role's value as it goes to disk: stacked experts with their last two axes exchanged."""
        return value.transpose(-1, -2).contiguous() if value.dim() == 3 else value

    def decode(self, fmt: Format, stored: Mapping[Role, torch.Tensor]) -> torch.Tensor:
        """fp32 [O, I] that a runtime computes with, from what is on disk; stacked experts as [E * O, I]."""
        rows = {
            role: value.transpose(-1, -2).flatten(0, 1) if value.dim() == 3 else value for role, value in stored.items()
        }
        return fmt.decode(rows, stored.get("scalar", torch.ones(())))

    def kv_scale(self, attention: str, which: Literal["k", "v"], amax: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Name and value, an fp32 scalar, of the scale of an attention's keys or values."""
        return f"{attention}.{which}_proj.{which}_scale", fp4.quotient(amax.float(), fp8.E4M3_MAX)

    def documents(self, scheme: Scheme) -> tuple[dict[str, Any], dict[str, Any]]:
        """The quantization section of config.json, and hf_quant_config.json."""
        kv_cache = "FP8" if scheme.kv_cache else None
        producer = {"name": "slipway", "version": scheme.version}
        quantization = {"kv_cache_quant_algo": kv_cache, **_quantization(scheme)}
        config = {
            **_groups(scheme),
            "ignore": quantization.get("exclude_modules", []),
            "quant_algo": quantization["quant_algo"],
            "producer": producer,
            "quant_method": "modelopt",
        }
        if kv_cache:
            config["kv_cache_scheme"] = {"dynamic": False, "num_bits": 8, "type": "float"}
        return config, {"producer": producer, "quantization": quantization}


def _suffix(fmt: Format, role: Role) -> str:
    if role == "scalar":
        return (
            "weight_scale_2" if "scale" in fmt.outputs(TensorInfo(torch.bfloat16, (1, fmt.block))) else "weight_scale"
        )
    return {"weight": "weight", "scale": "weight_scale", "input": "input_scale"}[role]


def _transposed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _quantization(scheme: Scheme) -> dict[str, Any]:
    """The keys that depend on the formats: one for all, or each layer's."""
    layers = _layers(scheme)
    if len(scheme.by_format()) > 1:
        return {
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {name: _algorithm(fmt) for name, fmt in layers.items()},
        }
    return {
        **_algorithm(next(iter(layers.values()))),
        "exclude_modules": sorted(summarize(scheme.unquantized, list(layers))),
    }


def _layers(scheme: Scheme) -> dict[str, Format]:
    """Formats by layer; the experts of a layer are one."""
    return {fusion.container(module) or module: fmt for module, fmt in scheme.formats.items()}


def _algorithm(fmt: Format) -> dict[str, Any]:
    return {"quant_algo": ALGORITHMS[fmt.name], **({"group_size": fmt.block} if fmt.block > 1 else {})}


def _groups(scheme: Scheme) -> dict[str, Any]:
    """`config_groups`, and each layer's algorithm in a mixture."""
    formats = [fmt for fmt, _ in scheme.by_format().values()]
    if len(formats) == 1:
        group = _group(formats[0])
        return {"config_groups": {"group_0": {**group, "targets": ["Linear"]}}} if group else {}
    layers = _layers(scheme)
    return {
        "config_groups": {
            f"group_{i}": {
                **_group(fmt),
                "targets": sorted(name for name, its in layers.items() if its.name == fmt.name),
            }
            for i, fmt in enumerate(formats)
        },
        "quantized_layers": {name: _algorithm(fmt) for name, fmt in layers.items()},
    }


def _group(fmt: Format) -> dict[str, Any]:
    if fmt.activations == "dynamic":  # ModelOpt has no group for them
        return {}
    numbers = {
        "dynamic": False,
        "num_bits": 4 if fmt.block > 1 else 8,
        "type": "float",
        **({"group_size": fmt.block} if fmt.block > 1 else {}),
    }
    return {"weights": numbers, **({"input_activations": dict(numbers)} if fmt.activations == "static" else {})}


def summarize(excluded: Iterable[str], quantized: Sequence[str]) -> set[str]:
    """Names and `prefix*` patterns that match all of `excluded` and none of `quantized`, as short as ModelOpt's: for
    each module its first prefix at a dot, `a.b*` or else `a.b.*`, that starts no quantized module, or else its name."""
    taken = {name[:i] for name in quantized for i in range(len(name) + 1)}
    patterns: set[str] = set()
    for name in excluded:
        prefixes = [name[:i] for i, character in enumerate(name) if character == "."]
        candidates = [pattern for prefix in prefixes for pattern in (prefix, f"{prefix}.") if pattern not in taken]
        patterns.add(f"{candidates[0]}*" if candidates else name)
    return patterns
