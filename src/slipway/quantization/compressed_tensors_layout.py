"""The layout of the compressed-tensors library (0.20), which vLLM and transformers load.

NVFP4's scalars are divisors here, G = 1 / g, so that a runtime computes q * (s / G): not quite q * (s * g), the last
bit of the product may differ. Scalars have the shape [1]; channels' scales [O, 1]. Documents spell out what the
library's presets of the same names say. Experts stacked in one tensor have no place in it and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from slipway.errors import ConfigError
from slipway.quantization import fp4, fp8, fusion
from slipway.quantization.formats import Format, Role
from slipway.quantization.scheme import Place, Scheme, require_one_format_a_unit
from slipway.weights.shards import TensorInfo

_LARGEST = torch.finfo(torch.float32).max
_SCALAR = TensorInfo(torch.float32, (1,))
_COMPRESSION = {
    "nvfp4": "nvfp4-pack-quantized",
    "nvfp4a16": "nvfp4-pack-quantized",
    "mxfp4": "mxfp4-pack-quantized",
    "fp8": "float-quantized",
    "fp8-dynamic": "float-quantized",
}
_NAMES: dict[str, dict[Role, str]] = {
    "nvfp4-pack-quantized": {
        "weight": "weight_packed",
        "scale": "weight_scale",
        "scalar": "weight_global_scale",
        "input": "input_global_scale",
    },
    "mxfp4-pack-quantized": {"weight": "weight_packed", "scale": "weight_scale"},
    "float-quantized": {"weight": "weight", "scale": "weight_scale", "scalar": "weight_scale", "input": "input_scale"},
}


class CompressedTensors:
    """The layout of compressed-tensors, as vLLM and transformers read it."""

    name = "compressed-tensors"

    def require(self, scheme: Scheme) -> None:
        """Raise ConfigError when weights that a runtime fuses have different formats."""
        require_one_format_a_unit(scheme)

    def places(self, module: str, fmt: Format, info: TensorInfo) -> dict[Role, Place]:
        """Raises ConfigError for stacked experts."""
        if len(info.shape) != 2:
            raise ConfigError(
                f"weight of {module}",
                f"shape {list(info.shape)}",
                f"[O, I] in the layout {self.name}",
                "use the layout modelopt",
            )
        names = _NAMES[_COMPRESSION[fmt.name]]
        places = {role: Place(f"{module}.{names[role]}", output) for role, output in fmt.outputs(info).items()}
        if fmt.name == "fp8-dynamic":
            places["scale"] = Place(places["scale"].name, TensorInfo(torch.float32, (info.shape[0], 1)))
        if fmt.scalar:
            places["scalar"] = Place(f"{module}.{names['scalar']}", _SCALAR)
        if fmt.activations == "static":
            places["input"] = Place(f"{module}.{names['input']}", _SCALAR)
        return places

    def store(self, fmt: Format, role: Role, value: torch.Tensor) -> torch.Tensor:
        """A role's value as it goes to disk: per-channel scales as [O, 1], scalars as [1], and reciprocals where the
        format divides by its global scale."""
        if role == "weight" or (role == "scale" and fmt.block > 1):
            return value
        value = value.reshape(-1, 1) if role == "scale" else value.reshape(1)
        return (1 / value).clamp(max=_LARGEST) if _divides(fmt) else value

    def decode(self, fmt: Format, stored: Mapping[Role, torch.Tensor]) -> torch.Tensor:
        """fp32 [O, I] that a runtime computes with, from what is on disk."""
        if _divides(fmt):
            values = fp4.decode(fp4.unpack(stored["weight"])).reshape(*stored["scale"].shape, fmt.block)
            return (values * (stored["scale"].float() / stored["scalar"]).unsqueeze(-1)).flatten(1)
        rows = {**stored, "scale": stored["scale"].squeeze(-1)} if fmt.name == "fp8-dynamic" else stored
        return fmt.decode(rows, stored.get("scalar", torch.ones(1)))

    def kv_scale(self, attention: str, which: Literal["k", "v"], amax: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Name and value, [1] fp32, of the scale of an attention's keys or values."""
        return f"{attention}.{which}_scale", fp4.quotient(amax.float(), fp8.E4M3_MAX).reshape(1)

    def documents(self, scheme: Scheme) -> tuple[dict[str, Any], None]:
        """The quantization section of config.json; this layout has no file of its own."""
        formats = scheme.by_format().values()
        compressions = {_COMPRESSION[fmt.name] for fmt, _ in formats}
        config = {
            "config_groups": {
                f"group_{i}": _group(fmt, _targets(scheme.both(modules)) if len(formats) > 1 else ["Linear"])
                for i, (fmt, modules) in enumerate(formats)
            },
            "format": compressions.pop() if len(compressions) == 1 else "mixed-precision",
            "global_compression_ratio": None,
            "ignore": scheme.both(scheme.unquantized),
            "kv_cache_scheme": _numbers(8, "tensor") if scheme.kv_cache else None,
            "quant_method": self.name,
            "quantization_status": "compressed",
            "version": f"slipway {scheme.version}",
        }
        return config, None


def _divides(fmt: Format) -> bool:
    return _COMPRESSION[fmt.name] == "nvfp4-pack-quantized"


def _targets(modules: Sequence[str]) -> list[str]:
    """Modules by name; all experts of a layer by a pattern, since vLLM asks for them by names of its own."""
    experts = {fusion.container(module) for module in modules} - {None}
    return sorted(
        [module for module in modules if not fusion.container(module)]
        + [f"re:{re.escape(str(name))}[.]" for name in experts]
    )


def _group(fmt: Format, targets: list[str]) -> dict[str, Any]:
    weights, inputs = _PRESETS[fmt.name]
    return {
        "targets": targets,
        "weights": weights,
        "input_activations": inputs,
        "output_activations": None,
        "format": _COMPRESSION[fmt.name],
    }


def _numbers(
    bits: int, strategy: str, *, group: int | None = None, dynamic: bool | str = False, scale: str | None = None
) -> dict[str, Any]:
    """A symmetric float, in the library's words (QuantizationArgs)."""
    return {
        "num_bits": bits,
        "type": "float",
        "symmetric": True,
        "strategy": strategy,
        "group_size": group,
        "dynamic": dynamic,
        "scale_dtype": scale,
        "zp_dtype": scale,
        "actorder": None,
        "block_structure": None,
    }


_NVFP4 = _numbers(4, "tensor_group", group=fp4.BLOCK, scale="torch.float8_e4m3fn")
_PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "nvfp4": (_NVFP4, {**_NVFP4, "dynamic": "local"}),
    "nvfp4a16": (_NVFP4, None),
    "mxfp4": (_numbers(4, "group", group=32, scale="torch.uint8"), None),
    "fp8": (_numbers(8, "tensor"), _numbers(8, "tensor")),
    "fp8-dynamic": (_numbers(8, "channel"), _numbers(8, "token", dynamic=True)),
}
