"""How a band of rows becomes codes: by the format's own rule, or by a search for better scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch

from slipway import fp4, scale_search
from slipway.errors import ConfigError
from slipway.formats import Format, Nvfp4, Role
from slipway.kernels import Kernels

Method = Literal["max", "mse", "gptq"]


class Encode(Protocol):
    """Rounds a band of rows [R, I] under the unit's scalar."""

    def __call__(self, rows: torch.Tensor, scale: torch.Tensor) -> Mapping[Role, torch.Tensor]: ...


Encoder = Callable[[Format, str], Encode]  # for a weight, by format and name


def encoder(method: Method, kernels: Kernels) -> Encoder:
    """What rounds every weight when nothing is known of its inputs."""
    if method == "gptq":
        raise ConfigError("quantize.method", "gptq without calibration data", "calibration data", "give --calibration FILE")
    return lambda fmt, _: kernels(fmt.encode) if method == "max" or not isinstance(fmt, Nvfp4) else kernels(search_block_scales)


def search_block_scales(rows: torch.Tensor, scale: torch.Tensor) -> Mapping[Role, torch.Tensor]:
    """NVFP4 with block scales of least squared error."""
    scales = scale_search.search(rows, scale)
    return {"weight": fp4.round_to(rows, scales, scale), "scale": scales}
