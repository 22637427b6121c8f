"""NVFP4 block scales by search: for each block of 16 the E4M3 scale s whose rounding errs least.

    s = argmin over the candidates of  sum_j h_j (W_j - g * s * q_j(s))^2,    q_j(s) = round(W_j / (g * s)) on E2M1

or, with the whole curvature of the block, e H_B e^T for e = W_B - g * s * q(s). h_j = E[x_j^2] is the mean square of the
j-th input: an error in a weight counts as much as the input it is multiplied with. Without calibration h = 1.
Candidates: `grids.neighbours` of the scale that puts the largest value on 6, that one first, so that it wins a tie.
"""

from __future__ import annotations

import torch

from slipway import fp4
from slipway.grids import NEAR, WIDE, nearest, neighbours


def search(weight: torch.Tensor, g: torch.Tensor, importance: torch.Tensor | None = None) -> torch.Tensor:
    """s, E4M3 [O, I/16], of a weight [O, I]; codes follow by `fp4.round_to`.

    `importance`: None, h [I], or H's diagonal blocks [I/16, 16, 16], any positive multiple of them. Rows are independent.
    """
    rows = weight.shape[0]
    blocks = weight.reshape(rows, -1, fp4.BLOCK).transpose(0, 1).float()  # [I/16, O, 16]
    candidates = neighbours(fp4.block_scales(weight, g), NEAR if importance is None else WIDE).permute(2, 1, 0)  # [C, I/16, O]
    metric = None if importance is None else _metric(importance)
    best, least = candidates[0].clone(), _loss(blocks, candidates[0], g, metric)
    for scales in candidates[1:]:
        loss = _loss(blocks, scales, g, metric)
        better = loss < least
        least = torch.minimum(loss, least)
        best = torch.where(better, scales.view(torch.uint8), best.view(torch.uint8)).view(torch.float8_e4m3fn)
    return best.T.contiguous()


def _metric(importance: torch.Tensor) -> torch.Tensor:
    """Diagonal blocks [I/16, 16, 16]."""
    if importance.dim() == 3:
        return importance.float()
    return torch.diag_embed(importance.float().reshape(-1, fp4.BLOCK))


def _loss(blocks: torch.Tensor, scales: torch.Tensor, g: torch.Tensor, metric: torch.Tensor | None) -> torch.Tensor:
    """[I/16, O] for blocks [I/16, O, 16]."""
    unit = (scales.float() * g).unsqueeze(-1)
    unit = torch.where(unit > 0, unit, 1.0)  # a group of zeros has g = 0
    error = blocks - nearest(blocks / unit) * unit
    return (error * error if metric is None else (error @ metric) * error).sum(-1)
