"""NVFP4: a weight as 4-bit floats E2M1 in blocks of 16 with an E4M3 scale each, and one fp32 scale over all.

    W[o, i] ~ g * s[o, i // 16] * q[o, i]

    q   in +-{0, 0.5, 1, 1.5, 2, 3, 4, 6}; code = sign << 3 | index; two codes a byte, low nibble = even column
    g   = max|W| / (6 * 448), fp32, over the whole group that a runtime fuses (q/k/v, gate/up): s then fits E4M3
    s   = e4m3(clamp(max|block| / (6 * g), 2^-9, 448)); a zero block has s = 1
    q   = round(W / (float(s) * g)), to nearest, ties to the even code, saturating at 6

Range: one block spans 6 * s; blocks 448 / 2^-9 = 2^17.8 apart still have a scale of their own. Cost 4 + 8/16 = 4.5 bits
a weight. The order of operations, all in fp32, is ModelOpt's, so that bits agree with its export; -0.0 encodes as +0, a
negative value that rounds to zero keeps its sign. Eager and compiled code run these same functions: flat blocks of 16
as the inner dimension fill a CPU's vectors, and no product feeds a sum, so that no compiler can contract one.
"""

from __future__ import annotations

import torch

from slipway.weights.e2m1 import E2M1, E2M1_MAX

E4M3_MAX, E4M3_MIN = 448.0, 2.0**-9
BLOCK = 16


def global_scale(amax: torch.Tensor) -> torch.Tensor:
    """g, fp32 scalar, from the largest magnitude of the fused group."""
    return quotient(amax.float(), E2M1_MAX * E4M3_MAX)


def quotient(x: torch.Tensor, divisor: float) -> torch.Tensor:
    """x / divisor for magnitudes x, rounded once on every device. torch, eager or compiled, divides a CUDA tensor by a
    known number as a product with its inverse, which rounds twice: so the divisor must look as if it depended on x."""
    return x / torch.where(x < 0, 1.0, divisor)


def block_scales(weight: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """s, E4M3 [O, I/16], of a weight [O, I]."""
    amax = weight.reshape(-1, BLOCK).float().abs().amax(-1)
    return nearest_scale(amax / (E2M1_MAX * g)).reshape(weight.shape[0], -1)


def nearest_scale(ratio: torch.Tensor) -> torch.Tensor:
    """E4M3 of wanted scales in units of g; what has no scale (a zero block, underflow, 0/0 where g is 0) gets 1."""
    return torch.where(ratio > 0, ratio, 1.0).clamp(E4M3_MIN, E4M3_MAX).to(torch.float8_e4m3fn)


def encode(x: torch.Tensor) -> torch.Tensor:
    """E2M1 codes, uint8 of x's shape, of fp32 values. torch.round takes ties to even, in each binade of the grid."""
    a = x.abs()
    low, middle, high = (
        torch.round(a * 2),
        torch.round(a) + 2,
        torch.round(a / 2) + 4,
    )  # steps of 0.5 below 2, of 1 below 4, of 2 above
    index = torch.where(a < 2, low, torch.where(a < 4, middle, high)).clamp(max=7)
    return (index + torch.where(x < 0, 8.0, 0.0)).to(torch.uint8)


def pack(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [..., I] -> uint8 [..., I/2], I a multiple of 8: eight codes are one 64-bit word, whose even bytes take the
    odd nibbles."""
    word = codes.contiguous().view(torch.int64)
    word = word | (word >> 4)
    return (
        (word & 0xFF | (word >> 8) & 0xFF00 | (word >> 16) & 0xFF0000 | (word >> 24) & 0xFF000000)
        .to(torch.int32)
        .view(torch.uint8)
    )


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """uint8 [O, I/2] -> uint8 [O, I]."""
    return torch.stack((packed & 0xF, packed >> 4), -1).flatten(-2)


def decode(codes: torch.Tensor) -> torch.Tensor:
    """fp32 values of E2M1 codes."""
    table = torch.tensor([*E2M1, *(-value for value in E2M1)], device=codes.device)
    return table[codes.int()]


def quantize(weight: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes uint8 [O, I/2] and block scales E4M3 [O, I/16] of a bf16 weight [O, I], I a multiple of 16."""
    scales = block_scales(weight, g)
    return round_to(weight, scales, g), scales


def round_to(weight: torch.Tensor, scales: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Packed codes uint8 [O, I/2] of a weight [O, I] under given block scales E4M3 [O, I/16]."""
    divisor = torch.where(g > 0, scales.reshape(-1, 1).float() * g, 1.0)  # a group of zeros has g = 0
    return pack(encode(weight.reshape(-1, BLOCK).float() / divisor)).view(weight.shape[0], -1)


def dequantize(packed: torch.Tensor, scales: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """fp32 [O, I]."""
    values = decode(unpack(packed)).reshape(packed.shape[0], -1, BLOCK)
    return (values * (scales.float() * g).unsqueeze(-1)).flatten(1)
