"""NVFP4 of a band of rows on a CPU in one compiled loop, `nvfp4_kernel.cpp`: what `fp4.quantize` makes, bit for bit.

Block maxima, scales, divisions, codes and packing of 256 weights stay in a core's first cache; torch's own compiler
makes three loops of them, and takes seconds of every process to load.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch

from slipway.quantization import fp4
from slipway.quantization.formats import FORMATS, Role
from slipway.system.native_code import library

SOURCE = Path(__file__).with_suffix(".cpp")
Encode = Callable[[torch.Tensor, torch.Tensor], dict[Role, torch.Tensor]]


def nvfp4_kernel() -> Encode | None:
    """`Nvfp4.encode` compiled; None where it cannot be compiled, or rounds otherwise than torch does."""
    compiled = library(SOURCE)
    return functools.partial(_encode, compiled) if compiled is not None and _is_right(compiled) else None


def _encode(compiled: ctypes.CDLL, rows: torch.Tensor, scale: torch.Tensor) -> dict[Role, torch.Tensor]:
    """Packed weight, uint8 [R, I / 2], and block scales, E4M3 [R, I / 16], of bf16 rows [R, I] under an fp32 scalar."""
    count, columns = rows.shape
    weight = rows.to(torch.bfloat16).contiguous()
    packed = torch.empty(count, columns // 2, dtype=torch.uint8)
    scales = torch.empty(count, columns // fp4.BLOCK, dtype=torch.float8_e4m3fn)
    g = ctypes.c_float(float(scale))
    pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (packed, scales))
    compiled.slipway_nvfp4(ctypes.c_void_p(weight.data_ptr()), ctypes.c_int64(scales.numel()), g, *pointers)
    return {"weight": packed, "scale": scales}


@functools.cache
def _is_right(compiled: ctypes.CDLL) -> bool:
    """Whether it gives torch's bytes, tried on blocks of many sizes, one of zeros, and a run that fills no group."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-6, 0, 37).unsqueeze(1)
    weight = (torch.randn(37, 48, generator=random) * sizes).to(torch.bfloat16)
    weight[5, :16] = 0
    scale = FORMATS["nvfp4"].scale(weight.abs().amax())
    eager, ours = FORMATS["nvfp4"].encode(weight, scale), _encode(compiled, weight, scale)
    return all(torch.equal(eager[role].view(torch.uint8), ours[role].view(torch.uint8)) for role in eager)
