"""GPTQ: rounding a weight so that the outputs of its matmul change least, with block scales chosen on the way.

For inputs x that calibration saw, H = sum over tokens of x x^T (fp32 [I, I]) and E = W - W_hat, the outputs' squared
error is

    sum over tokens |E x|^2 = tr(E H E^T) = |E L|^2,    H + damping * mean(diag H) * 1 = L L^T, L lower triangular,

and (E L)_j = E_j L_jj + sum_{i > j} E_i L_ij. So go from the last column to the first; column j's error is least where
W_hat_j is the number nearest to W_j + (sum_{i > j} E_i L_ij) / L_jj. This is the GPTQ paper's algorithm (Frantar et
al., arXiv 2210.17323; in this form, without the inverse of H, LDLQ: Chee et al., arXiv 2307.13304, theorem 1).

Columns that share a scale are rounded together: T = W_B + (E_later L_later,B) L_BB^-1 is what they should be, every
candidate scale of the grid is tried on all of them with the errors fed on inside the block, and each row keeps the
scale whose |(T - W_hat_B) L_BB|^2 is least: that is the block's whole part of the sum, not an estimate. Blocks with the
largest inputs come first, and inside a block the columns with the largest (the paper's act-order; blocks stay whole, so
the layout on disk does not change). Errors reach the columns to come once in 128 columns, by one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slipway.errors import CheckpointError
from slipway.quantization import fp4
from slipway.quantization.grids import Grid, Nvfp4Grid
from slipway.quantization.hessian import DAMPING, damped_cholesky_

_LAZY = 128  # columns between products with everything rounded so far


@dataclass(frozen=True)
class Rounded:
    """A weight on a grid: `values` fp32 [O, I] are codes' values, `scales` fp32 [O, I/block] as they are stored."""

    values: torch.Tensor
    scales: torch.Tensor


def quantize(weight: torch.Tensor, g: torch.Tensor, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """NVFP4 of a weight [O, I] under the scalar g: packed codes uint8 [O, I/2] and block scales E4M3 [O, I/16]."""
    rounded = round_weight(weight, hessian, Nvfp4Grid(g))
    return fp4.pack(fp4.encode(rounded.values)), rounded.scales.to(torch.float8_e4m3fn)


def round_weight(weight: torch.Tensor, hessian: torch.Tensor, grid: Grid, damping: float = DAMPING) -> Rounded:
    """Round a weight [O, I] under the Hessian [I, I] of its inputs.

    Rows do not see each other: weights with the same inputs may be stacked. Raises CheckpointError when I is not a
    multiple of the grid's block, or no damping makes the Hessian positive definite (see `curvature`).
    """
    rows, columns = weight.shape
    if columns % grid.block:
        raise CheckpointError(
            "weight", f"{columns} input features", f"a multiple of {grid.block}", "exclude it from quantization"
        )
    order = _order(hessian, grid.block)
    factor = damped_cholesky_(hessian[order.unsqueeze(1), order], damping)
    exact = weight[:, order].float()
    error, values = torch.zeros_like(exact), torch.empty_like(exact)
    scales = exact.new_empty(rows, columns // grid.block)
    for end in range(columns, 0, -_LAZY):
        begin = max(0, end - _LAZY)
        carried = error[:, end:] @ factor[end:, begin:end]
        for first in range(end - grid.block, begin - 1, -grid.block):
            last = first + grid.block
            local, block = factor[first:last, first:last], slice(first, last)
            carry = carried[:, first - begin : last - begin] + error[:, last:end] @ factor[last:end, block]
            target = exact[:, block] + torch.linalg.solve_triangular(local, carry, upper=False, left=False)
            values[:, block], scale = _round_block(target, local, grid)
            scales[:, first // grid.block] = scale
            error[:, block] = exact[:, block] - values[:, block] * grid.units(scale).unsqueeze(1)
    return Rounded(_unordered(values, order), _unordered(scales, order[:: grid.block] // grid.block))


def _round_block(target: torch.Tensor, factor: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """(values [O, B], scales [O]) that make |(target - values * unit) factor|^2 least, for target [O, B] and factor [B,
    B]."""
    candidates = grid.scales(target)
    units = grid.units(candidates)
    feedback = factor / factor.diagonal()
    errors, values = (units.new_empty(target.shape[1], *units.shape) for _ in range(2))  # [B, O, C]
    loss = torch.zeros_like(units)
    for j in reversed(range(target.shape[1])):
        exact = target[:, j, None]
        wanted = exact + torch.tensordot(feedback[j + 1 :, j], errors[j + 1 :], 1)
        values[j] = grid.nearest(wanted / units)
        rounded = values[j] * units
        errors[j] = exact - rounded
        loss += (wanted - rounded).square_().mul_(factor[j, j] ** 2)
    best = loss.argmin(1, keepdim=True)  # the first of equals
    return values.gather(2, best.expand(len(values), -1, 1)).squeeze(2).T, candidates.gather(1, best).squeeze(1)


def _order(hessian: torch.Tensor, block: int) -> torch.Tensor:
    """Columns, whole blocks together, the least inputs first: rounding goes from the end."""
    power = hessian.diagonal().reshape(-1, block)
    inside = power.argsort(dim=1, stable=True)
    blocks = power.sum(1).argsort(stable=True)
    return (inside + block * torch.arange(len(power), device=power.device).unsqueeze(1))[blocks].flatten()


def _unordered(columns: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    restored = torch.empty_like(columns)
    restored[:, order] = columns
    return restored
