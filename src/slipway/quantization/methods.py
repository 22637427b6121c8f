"""How rows become codes: by the format's own rule, by a search for better block scales, or by GPTQ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Protocol

import torch

from slipway.errors import ConfigError
from slipway.quantization import fp4, fp8, gptq, mxfp4, scale_search
from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import Format, Fp8, Fp8Dynamic, Mxfp4, Nvfp4, Role
from slipway.quantization.grids import Fp8Grid, Mxfp4Grid

Method = Literal["max", "mse", "gptq"]


class Encode(Protocol):
    """Rounds rows [R, I] under the unit's scalar."""

    def __call__(self, rows: torch.Tensor, scale: torch.Tensor, /) -> Mapping[Role, torch.Tensor]: ...


Encoder = Callable[[Format], Encode]


def encoder(method: Method, kernels: Kernels, importance: torch.Tensor | None = None) -> Encoder:
    """For weights whose inputs have E[x_i^2] `importance` [I], or None when nothing is known of them; `max` does not
    ask."""
    if method == "gptq":
        raise ConfigError(
            "quantize.method", "gptq without calibration data", "calibration data", "give --calibration FILE"
        )

    def choose(fmt: Format) -> Encode:
        if method == "max" or not isinstance(fmt, Nvfp4):
            return kernels(fmt.encode)
        return partial(searched, importance)  # not compiled: no faster, and near ties could fall the other way

    return choose


def searched(importance: torch.Tensor | None, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:
    """NVFP4 with the block scales of least squared error, of the outputs as far as `importance` tells, else of the
    weights."""
    scales = scale_search.search(rows, scale, importance)
    return {"weight": fp4.round_to(rows, scales, scale), "scale": scales}


def adapted(fmt: Format, rows: torch.Tensor, scale: torch.Tensor, hessian: torch.Tensor) -> dict[Role, torch.Tensor]:
    """GPTQ of whole rows fp32 [R, I] under the Hessian [I, I] of their inputs; weights with the same inputs may be
    stacked."""
    if isinstance(fmt, Nvfp4):
        packed, scales = gptq.quantize(rows, scale, hessian)
        return {"weight": packed, "scale": scales}
    if isinstance(fmt, Mxfp4):
        rounded = gptq.round_weight(rows, hessian, Mxfp4Grid())
        return {"weight": fp4.pack(fp4.encode(rounded.values)), "scale": mxfp4.stored(rounded.scales)}
    if isinstance(fmt, Fp8):
        return {"weight": fp8.cast(gptq.round_weight(rows, hessian, Fp8Grid(scale)).values)}
    assert isinstance(fmt, Fp8Dynamic)
    scales = fp8.channel_scales(rows)
    return {"weight": fp8.cast(gptq.round_weight(rows, hessian, Fp8Grid(scales)).values), "scale": scales}
