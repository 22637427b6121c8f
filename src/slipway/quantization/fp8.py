"""FP8: a weight as E4M3 numbers with one fp32 scale for the tensor, or one for each output channel.

    W[o, i] ~ s * q[o, i]  or  s[o] * q[o, i],    s = max|W| / 448,    q = e4m3(W / s), nearest, ties to even

E4M3 (fn) counts in 2^-9 below 2^-6, ends at +-448, has no infinity; -0.0 stays. Cost 8 bits a weight, and 32 a scale.
ModelOpt 0.47 divides by a Linear's scale in bf16, one rounding more than needed, and by those of channels or stacked
experts in fp32; both are kept here to agree bit for bit, with the rounding written out so that CPU, CUDA and compiled
code do the same. Zeros have s = 1 (ModelOpt: NaN codes for a zero tensor, s = 1 for a zero channel). Left out: scales
for blocks of 128 x 128.
"""

from __future__ import annotations

import torch

from slipway.quantization.fp4 import quotient

E4M3_MAX = 448.0
_TINY = torch.finfo(torch.float32).tiny


def scale(amax: torch.Tensor) -> torch.Tensor:
    """s, fp32 of amax's shape, from largest magnitudes; 1 where they are 0."""
    amax = amax.float()
    return torch.where(amax > 0, quotient(amax.clamp(min=_TINY), E4M3_MAX), 1.0)


def channel_scales(weight: torch.Tensor) -> torch.Tensor:
    """s, fp32 [O], of a weight [O, I]."""
    return scale(weight.abs().amax(-1))


def cast(x: torch.Tensor) -> torch.Tensor:
    """E4M3 of x's shape, saturating: torch itself makes NaN of what is out of range."""
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def quantize(weight: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """E4M3 [O, I] of a bf16 weight [O, I] by a scale that broadcasts: fp32 [] for the tensor, [O, 1] for channels."""
    return cast(weight.float() / s)


def quantize_rounded(weight: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The same with the quotient rounded to bf16 first."""
    return cast((weight.float() / s).to(torch.bfloat16))
