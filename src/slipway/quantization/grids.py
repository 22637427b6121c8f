"""The numbers that a quantized weight can take, as adaptive rounding sees them: candidate scales, and the nearest code.

A block of B input features of one row is  unit * q,  q on the format's grid. For NVFP4 unit = s * g, s one of the E4M3
numbers around max|block| / (6 * g). E4M3 numbers of one sign are in the order of their bytes, so the candidates are the
bytes c + d, c that of `max`'s rule, held within [2^-9, 448]. Five or six steps up are half as much again: the largest
value is then on 4 instead of 6. Steps down clip it. NEAR is all that a plain squared error ever takes, and GPTQ loses
nothing by it; where inputs are unequal, a clipped weight can be one that hardly counts, and WIDE is better by 4% of the
error. MXFP4: the power of two that saturates nothing, and the next below. FP8: the scale is given, one for the tensor
or a row.

`nearest` is `fp4.encode` without the code, ten times as fast on a CPU (torch.where is slow there): adding and
subtracting 1.5 * 2^23 steps rounds to a whole number of steps, ties to even, the step being read from x's exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from slipway.quantization import fp4, fp8, mxfp4
from slipway.weights.e2m1 import E2M1_MAX

NEAR = (0, 1, -1, 2, -2, 3, 4, 5, 6)  # the rule's own scale first: it wins a tie
WIDE = (*NEAR, -3, -4, -5, -6, -7, -8)
_EXPONENT, _STEPS = 0x7F800000, 1.5 * 2.0**22
_E4M3_MAX_BYTE = 0x7E


class Grid(Protocol):
    """One format's numbers under one weight's scalar."""

    @property
    def block(self) -> int:
        """Input features that share a scale."""

    def scales(self, target: torch.Tensor) -> torch.Tensor:
        """Candidates fp32 [O, C], as they are stored, for target [O, B]; the one that `max` would take first."""

    def units(self, scales: torch.Tensor) -> torch.Tensor:
        """What codes are multiplied with, fp32 of the scales' shape."""

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """The code's value nearest to each x, ties to the even code, saturating; fp32 of x's shape."""


def nearest(x: torch.Tensor) -> torch.Tensor:
    """E2M1 values nearest to fp32 x, any shape: `fp4.decode(fp4.encode(x))`."""
    binade = (x.view(torch.int32) & _EXPONENT).view(torch.float32).clamp_(1, 4)
    shift = binade * _STEPS
    return x.add(shift).sub_(shift).clamp_(-E2M1_MAX, E2M1_MAX)


def neighbours(scales: torch.Tensor, steps: Sequence[int] = NEAR) -> torch.Tensor:
    """E4M3 [..., C] around positive E4M3 scales [...], that many bytes away."""
    offsets = torch.tensor(steps, dtype=torch.int16, device=scales.device)
    codes = scales.view(torch.uint8).to(torch.int16).unsqueeze(-1) + offsets
    return codes.clamp_(1, _E4M3_MAX_BYTE).to(torch.uint8).view(torch.float8_e4m3fn)


@dataclass(frozen=True)
class Nvfp4Grid:
    """E2M1 with a searched E4M3 scale per 16 and the fp32 scalar g."""

    g: torch.Tensor
    block: int = fp4.BLOCK

    def scales(self, target: torch.Tensor) -> torch.Tensor:
        """Candidate block scales of `target`, one row for each group: the one from its largest magnitude, and its E4M3
        neighbours."""
        return neighbours(fp4.block_scales(target, self.g).squeeze(1)).float()

    def units(self, scales: torch.Tensor) -> torch.Tensor:
        """The value of one step for each scale: block scale times global scale."""
        return scales * torch.where(self.g > 0, self.g, 1.0)  # a group of zeros has g = 0

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, in units of the scale, rounded to E2M1."""
        return nearest(x)


@dataclass(frozen=True)
class Mxfp4Grid:
    """E2M1 with a power of two per 32."""

    block: int = mxfp4.BLOCK

    def scales(self, target: torch.Tensor) -> torch.Tensor:
        """Candidate scales of `target`, one row for each group: the power of two from its largest magnitude, and half
        of it."""
        e = mxfp4.exponents(target)
        e = torch.cat((e, (e - 1).clamp_(min=1)), 1).clamp_(min=1)
        return (e << 23).view(torch.float32)

    def units(self, scales: torch.Tensor) -> torch.Tensor:
        """The value of one step for each scale: the scale itself."""
        return scales

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, in units of the scale, rounded to E2M1."""
        return nearest(x)


@dataclass(frozen=True)
class Fp8Grid:
    """E4M3 with the scale s of the tensor (fp32 scalar) or of each row (fp32 [O]); `block` only sets the pace."""

    s: torch.Tensor
    block: int = 16

    def scales(self, target: torch.Tensor) -> torch.Tensor:
        """The one scale there is, for each row of `target`."""
        return self.s.expand(target.shape[0]).unsqueeze(1)

    def units(self, scales: torch.Tensor) -> torch.Tensor:
        """The value of one step for each scale: the scale itself."""
        return scales

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, in units of the scale, rounded to E4M3."""
        return fp8.cast(x).float()
