"""NVFP4 block scales by search: for each block of 16 the E4M3 scale s whose rounding errs least.

    s = argmin over the candidates of  sum_j h_j (W_j - g * s * q_j(s))^2,    q_j(s) = round(W_j / (g * s)) on E2M1

or, with the whole curvature of the block, e H_B e^T for e = W_B - g * s * q(s). h_j = E[x_j^2] is the mean square of
the j-th input: an error in a weight counts as much as the input it is multiplied with. Without calibration h = 1.
Candidates: `grids.neighbours` of the scale that puts the largest value on 6, that one first, so that it wins a tie.
"""

from __future__ import annotations

import torch

from slipway.quantization import fp4
from slipway.quantization.grids import NEAR, WIDE, nearest, neighbours


def search(weight: torch.Tensor, g: torch.Tensor, importance: torch.Tensor | None = None) -> torch.Tensor:
    """s, E4M3 [O, I/16], of a weight [O, I]; codes follow by `fp4.round_to`.

    `importance`: None, h [I], or H's diagonal blocks [I/16, 16, 16], fp32, or any positive multiple of them.
    Rows are independent. Where two scales err alike but for the order of a sum, devices may choose differently.
    """
    blocks = weight.reshape(weight.shape[0], -1, fp4.BLOCK).float()
    steps = NEAR if importance is None else WIDE
    first, *others = neighbours(fp4.block_scales(weight, g), steps).view(torch.uint8).unbind(-1)
    best, least = first, _loss(blocks, first, g, importance)
    for codes in others:
        loss = _loss(blocks, codes, g, importance)
        best = torch.where(loss < least, codes, best)
        least = torch.minimum(loss, least)
    return best.view(torch.float8_e4m3fn)


def _loss(blocks: torch.Tensor, codes: torch.Tensor, g: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """[O, I/16] for blocks [O, I/16, 16] and the bytes [O, I/16] of their scales."""
    unit = codes.view(torch.float8_e4m3fn).float().unsqueeze(-1) * torch.where(
        g > 0, g, 1.0
    )  # a group of zeros has g = 0
    error = blocks - nearest(blocks / unit) * unit
    if importance is None:
        return error.square().sum(-1)
    if importance.dim() == 1:
        return (error.square() * importance.reshape(-1, fp4.BLOCK)).sum(-1)
    return ((error.transpose(0, 1) @ importance).transpose(0, 1) * error).sum(-1)
