"""Quantized formats: what becomes of the numbers of a Linear's weight. Names and documents on disk are `layouts`'
business.

| name | weight | activations | numerics |
|---|---|---|---|
| nvfp4 | E2M1, E4M3 per 16, fp32 scalar | NVFP4, static scalar from calibration | `fp4` |
| nvfp4a16 | the same | as they are | `fp4` |
| mxfp4 | E2M1, E8M0 per 32 | as they are | `mxfp4` |
| fp8 | E4M3, fp32 scalar | E4M3, static scalar from calibration | `fp8` |
| fp8-dynamic | E4M3, fp32 per output channel | E4M3, one scale a token, made while serving | `fp8` |

A format sees a weight as rows [R, I], any band of them, so that its working memory does not grow with the model;
stacked experts [E, O, I] are E * O rows. `encode` is made of torch operations alone and branches on no value: it gives
the same bytes eager and compiled, on CPU and CUDA, given IEEE division and no elided rounding (`fp8` rounds to bf16 on
the way).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

from slipway.errors import ConfigError
from slipway.quantization import fp4, fp8, mxfp4
from slipway.weights.e2m1 import E2M1_MAX
from slipway.weights.shards import TensorInfo

Role = Literal[
    "weight", "scale", "scalar", "input"
]  # codes; scales of blocks or channels; the weight's fp32 scalar; input_scale
Sharing = Literal["fused", "experts", "none"]  # whose weights have one scalar, see `fusion`


class Format(Protocol):
    """A way to write a Linear's weight."""

    @property
    def name(self) -> str:
        """The format's name in the config."""

    @property
    def bits(self) -> float:
        """Per weight: codes and block scales. fp32 scales of tensors and channels come on top."""

    @property
    def block(self) -> int:
        """Input features must be a multiple of this."""

    @property
    def sharing(self) -> Sharing:
        """Which weights share a global scale."""

    @property
    def scalar(self) -> bool:
        """Whether `encode` needs `scale(amax)` and the scalar is written."""

    @property
    def activations(self) -> Literal["none", "static", "dynamic"]:
        """Whether activations are quantized, by scales from calibration or from each input."""

    def outputs(self, info: TensorInfo) -> dict[Role, TensorInfo]:
        """What `encode` makes of a weight [..., O, I], leading axes kept."""

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The weight's fp32 scalar for the largest magnitude of all that share it; 1 for a format without."""

    def input_scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The fp32 scalar for the largest magnitude of an input. Raises ConfigError unless activations are static."""

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:
        """Outputs for a band of bf16 rows [R, I]."""

    def decode(self, outputs: Mapping[Role, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        """fp32 [R, I] that a runtime would compute with."""

    def stacked(self) -> Format:
        """The format as it is for stacked experts. Raises ConfigError where nothing would load them."""


class _WithoutScalars:
    """Of formats whose weights need no scalar and whose activations have no scale on disk."""

    name: str

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(amax, dtype=torch.float32)

    def input_scale(self, amax: torch.Tensor) -> torch.Tensor:
        raise ConfigError(
            f"input scale of {self.name}",
            f"amax {amax.tolist()}",
            "a format with static activations",
            "use nvfp4 or fp8",
        )

    def stacked(self) -> Format:
        raise ConfigError(
            f"format {self.name}",
            "experts stacked in one tensor",
            "a layout that a runtime loads: there is none",
            "use nvfp4 or fp8",
        )


@dataclass(frozen=True)
class Nvfp4:
    """NVFP4: E2M1 in blocks of 16 with E4M3 scales, and one fp32 global scale."""

    name: str
    activations: Literal["none", "static"]
    bits: float = 4 + 8 / fp4.BLOCK
    block: int = fp4.BLOCK
    sharing: Sharing = "fused"
    scalar: bool = True

    def outputs(self, info: TensorInfo) -> dict[Role, TensorInfo]:
        """Packed weight, uint8 [..., I / 2], and block scales, E4M3 [..., I / 16]."""
        *rows, columns = info.shape
        return {
            "weight": TensorInfo(torch.uint8, (*rows, columns // 2)),
            "scale": TensorInfo(torch.float8_e4m3fn, (*rows, columns // fp4.BLOCK)),
        }

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The global scale, fp32, of weights whose largest magnitude is `amax`; 1 where that is 0."""
        return torch.where(amax > 0, fp4.global_scale(amax), 1.0)

    def input_scale(self, amax: torch.Tensor) -> torch.Tensor:
        """As for weights; for an input that is always zero, ModelOpt's 6 / (6 * 448)."""
        return fp4.global_scale(torch.where(amax > 0, amax.float(), E2M1_MAX))

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:
        """Packed weight and block scales of `rows`, [O, I]."""
        packed, scales = fp4.quantize(rows, scale)
        return {"weight": packed, "scale": scales}

    def decode(self, outputs: Mapping[Role, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        """fp32 values of the packed weight."""
        return fp4.dequantize(outputs["weight"], outputs["scale"], scale)

    def stacked(self) -> Nvfp4:
        """The same format for stacked experts."""
        return self


@dataclass(frozen=True)
class Mxfp4(_WithoutScalars):
    """MXFP4: E2M1 in blocks of 32 with power-of-two scales."""

    name: str = "mxfp4"
    activations: Literal["none"] = "none"
    bits: float = 4 + 8 / mxfp4.BLOCK
    block: int = mxfp4.BLOCK
    sharing: Sharing = "none"
    scalar: bool = False

    def outputs(self, info: TensorInfo) -> dict[Role, TensorInfo]:
        """Packed weight, uint8 [..., I / 2], and E8M0 scales as uint8 [..., I / 32]."""
        *rows, columns = info.shape
        return {
            "weight": TensorInfo(torch.uint8, (*rows, columns // 2)),
            "scale": TensorInfo(torch.uint8, (*rows, columns // mxfp4.BLOCK)),
        }

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:  # noqa: ARG002
        """Packed weight and scales of `rows`, [O, I]; `scale` is not used."""
        packed, scales = mxfp4.quantize(rows)
        return {"weight": packed, "scale": scales}

    def decode(self, outputs: Mapping[Role, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """fp32 values of the packed weight; `scale` is not used."""
        return mxfp4.dequantize(outputs["weight"], outputs["scale"])

    def stacked(self) -> Mxfp4:
        """The same format for stacked experts."""
        return self


@dataclass(frozen=True)
class Fp8:
    """One scale a tensor. ModelOpt shares it over gate and up of an expert, not over the projections of a dense
    layer: `fused` does both."""

    name: str = "fp8"
    activations: Literal["static"] = "static"
    bits: float = 8.0
    block: int = 1
    sharing: Sharing = "experts"
    scalar: bool = True
    rounded: bool = True  # the quotient, to bf16

    def outputs(self, info: TensorInfo) -> dict[Role, TensorInfo]:
        """The weight in E4M3, of its own shape."""
        return {"weight": TensorInfo(torch.float8_e4m3fn, info.shape)}

    def scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The scale, fp32, of weights whose largest magnitude is `amax`."""
        return fp8.scale(amax)

    def input_scale(self, amax: torch.Tensor) -> torch.Tensor:
        """The scale, fp32, of inputs whose largest magnitude is `amax`."""
        return fp8.scale(amax)

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:
        """E4M3 values of `rows` divided by `scale`."""
        return {"weight": (fp8.quantize_rounded if self.rounded else fp8.quantize)(rows, scale)}

    def decode(self, outputs: Mapping[Role, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        """fp32 values of the weight."""
        return outputs["weight"].float() * scale

    def fused(self) -> Fp8:
        """The format with one scale for all projections that a runtime runs as one matmul."""
        return replace(self, sharing="fused")

    def stacked(self) -> Fp8:
        """The format for stacked experts, which divides without the extra rounding."""
        return replace(self, rounded=False)


@dataclass(frozen=True)
class Fp8Dynamic(_WithoutScalars):
    """FP8 with a scale for each output channel, and inputs scaled as they come."""

    name: str = "fp8-dynamic"
    activations: Literal["dynamic"] = "dynamic"
    bits: float = 8.0
    block: int = 1
    sharing: Sharing = "none"
    scalar: bool = False

    def outputs(self, info: TensorInfo) -> dict[Role, TensorInfo]:
        """The weight in E4M3, and fp32 scales [O]."""
        return {
            "weight": TensorInfo(torch.float8_e4m3fn, info.shape),
            "scale": TensorInfo(torch.float32, info.shape[:-1]),
        }

    def encode(self, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:  # noqa: ARG002
        """E4M3 values and channel scales of `rows`, [O, I]; `scale` is not used."""
        scales = fp8.channel_scales(rows)
        return {"weight": fp8.quantize(rows, scales.unsqueeze(-1)), "scale": scales}

    def decode(self, outputs: Mapping[Role, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """fp32 values of the weight; `scale` is not used."""
        return outputs["weight"].float() * outputs["scale"].unsqueeze(-1)


FORMATS: dict[str, Format] = {
    fmt.name: fmt for fmt in (Nvfp4("nvfp4", "static"), Nvfp4("nvfp4a16", "none"), Mxfp4(), Fp8(), Fp8Dynamic())
}
# Where a runtime that fuses projections reads FP8: with scales that differ it would round their weights once more
SHARING_FORMATS: dict[str, Format] = {**FORMATS, "fp8": Fp8().fused()}
