"""MXFP4 (OCP Microscaling 1.0): a weight as E2M1 in blocks of 32 that share a power of two, E8M0.

    W[o, i] ~ 2^e[o, i // 32] * q[o, i],    q in +-{0, 0.5, 1, 1.5, 2, 3, 4, 6} packed as in `fp4`

    e = ceil(log2(max|block| / 6)), at least -127: the least power of two that saturates nothing; stored as uint8 e +
    127 q = round(W / 2^e), to nearest, ties to the even code

The specification lets the implementation choose e (its example, floor(log2 max|block|) - 2, cuts values above 6 * 2^e)
and asks for ties to even. ModelOpt 0.47 has the same e but rounds ties toward zero and writes zeros as -0.0: our codes
differ from its codes on those two and nowhere else. Range 2^-127 to 2^127; cost 4 + 8/32 = 4.25 bits a weight.

e is read from the bits of max|block| = m * 2^k, 1 <= m < 2: e = k - 2 if m <= 1.5 else k - 1. Dividing by 2^e is
multiplying by a power of two made of bits too. Both are exact on every device; a logarithm is not. Left out: e - 1
where that has the smaller error.
"""

from __future__ import annotations

import torch

from slipway.quantization import fp4

BLOCK = 32
_BIAS, _MANTISSA_BITS, _ABOVE_1_5 = 127, 23, (1 << 22) - 1  # adding the last carries into the exponent where m > 1.5


def exponents(weight: torch.Tensor) -> torch.Tensor:
    """e + 127, int32 [O, I/32], of a bf16 weight [O, I]."""
    amax = weight.reshape(-1, BLOCK).float().abs().amax(-1)
    e = ((amax.view(torch.int32) + _ABOVE_1_5) >> _MANTISSA_BITS) - 2
    return e.clamp(min=0).reshape(weight.shape[0], -1)


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes uint8 [O, I/2] and exponents uint8 [O, I/32] of a bf16 weight [O, I], I a multiple of 32."""
    e = exponents(weight)
    inverse = ((2 * _BIAS - e) << _MANTISSA_BITS).view(torch.float32)  # 2^-(e - 127), a normal number: e <= 253
    x = weight.reshape(-1, BLOCK).float() * inverse.reshape(-1, 1)
    return fp4.pack(fp4.encode(x)).view(weight.shape[0], -1), e.to(torch.uint8)


def stored(powers: torch.Tensor) -> torch.Tensor:
    """Exponents uint8 as they are stored, of powers of two fp32, 2^-126 and above."""
    return (powers.view(torch.int32) >> _MANTISSA_BITS).to(torch.uint8)


def dequantize(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """fp32 [O, I]."""
    e = scales.int()
    power = torch.where(e > 0, e << _MANTISSA_BITS, 1 << (_MANTISSA_BITS - 1)).view(
        torch.float32
    )  # 2^-127 is subnormal
    values = fp4.decode(fp4.unpack(packed)).reshape(packed.shape[0], -1, BLOCK)
    return (values * power.unsqueeze(-1)).flatten(1)
