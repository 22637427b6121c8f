"""The layout that gpt-oss is published in: experts in MXFP4, everything else in bf16.

    X_blocks  U8 [E, O, I/32, 16]   codes of a block, low nibble = even column
    X_scales  U8 [E, O, I/32]       E8M0

transformers, vLLM and llama.cpp's converter load it by `quant_method: mxfp4`. Other weights than stacked experts have
no place in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from slipway.errors import ConfigError
from slipway.quantization import mxfp4
from slipway.quantization.formats import Format, Role
from slipway.quantization.scheme import Place, Scheme
from slipway.weights.shards import TensorInfo


class GptOss:
    """Stacked experts as `_blocks` and `_scales`, as OpenAI publishes them."""

    name = "gpt-oss"

    def require(self, scheme: Scheme) -> None:
        """Raise ConfigError for another format than MXFP4, and for KV scales."""
        others = sorted(scheme.by_format().keys() - {"mxfp4"})
        if others or scheme.kv_cache:
            raise ConfigError(
                f"layout {self.name}",
                f"format {others[0]}" if others else "kv_cache fp8",
                "experts in mxfp4 and nothing else quantized",
                "use quantize.format=mxfp4 without rules and KV scales, or the layout modelopt",
            )

    def places(self, module: str, fmt: Format, info: TensorInfo) -> dict[Role, Place]:  # noqa: ARG002
        """Blocks and scales of stacked experts [E, O, I]. Raises ConfigError for any other weight."""
        if len(info.shape) != 3:
            expected = f"stacked experts [E, O, I] in the layout {self.name}"
            raise ConfigError(f"weight of {module}", f"shape {list(info.shape)}", expected, "exclude it")
        experts, rows, columns = info.shape
        blocks = (experts, rows, columns // mxfp4.BLOCK)
        return {
            "weight": Place(f"{module}_blocks", TensorInfo(torch.uint8, (*blocks, mxfp4.BLOCK // 2))),
            "scale": Place(f"{module}_scales", TensorInfo(torch.uint8, blocks)),
        }

    def store(self, fmt: Format, role: Role, value: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Codes uint8 [E, O, I/2] in their blocks; scales as they are."""
        return value.reshape(*value.shape[:-1], -1, mxfp4.BLOCK // 2) if role == "weight" else value

    def decode(self, fmt: Format, stored: Mapping[Role, torch.Tensor]) -> torch.Tensor:
        """fp32 [E * O, I] that a runtime computes with, from what is on disk."""
        rows: dict[Role, torch.Tensor] = {
            "weight": stored["weight"].flatten(2).flatten(0, 1),
            "scale": stored["scale"].flatten(0, 1),
        }
        return fmt.decode(rows, torch.ones(()))

    def kv_scale(self, attention: str, which: Literal["k", "v"], amax: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Raises ConfigError: this layout has no place for KV scales."""
        value = f"{which} of {attention}, {float(amax)}"
        raise ConfigError(f"KV scale in layout {self.name}", value, "none", "use quantize.kv_cache=none")

    def documents(self, scheme: Scheme) -> tuple[dict[str, Any], None]:
        """The quantization section of config.json; this layout has no file of its own."""
        return {"quant_method": "mxfp4", "modules_to_not_convert": scheme.both(scheme.unquantized)}, None
