"""GPTQ: equal to the paper's algorithm written naively, better than rounding to nearest, and repeatable."""

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.quantization import fp4, fp8, mxfp4
from slipway.quantization.gptq import quantize, round_weight
from slipway.quantization.grids import Fp8Grid, Mxfp4Grid, Nvfp4Grid, nearest
from slipway.quantization.hessian import DAMPING, damped_cholesky_
from slipway.quantization.scale_search import search


def inputs(tokens=512, features=256, seed=0):
    """Correlated inputs of unequal size [T, I]."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(features, features, generator=random) / features**0.5 + torch.eye(features) / 2
    size = torch.logspace(-1, 0.5, features)[torch.randperm(features, generator=random)]
    return torch.randn(tokens, features, generator=random) @ mix * size


def weights(rows=40, features=256, seed=1):
    return (torch.randn(rows, features, generator=torch.Generator().manual_seed(seed)) / 16).to(torch.bfloat16)


def scalar(weight):
    return fp4.global_scale(weight.abs().amax())


class MaxOnly(Nvfp4Grid):
    """The scale of `max`, no others."""

    def scales(self, target):
        return super().scales(target)[:, :1]


def textbook(weight, hessian, grid):
    """The GPTQ paper's algorithm 1 in float64, one column at a time, no lazy batches; columns in act-order by
    blocks."""
    rows, features, block = *weight.shape, grid.block
    h = hessian.double() + DAMPING * hessian.diagonal().double().mean() * torch.eye(features, dtype=torch.float64)
    groups = sorted(
        range(features // block), key=lambda b: -float(hessian.diagonal()[b * block : (b + 1) * block].double().sum())
    )
    order = [i for b in groups for i in sorted(range(b * block, (b + 1) * block), key=lambda i: -float(hessian[i, i]))]
    inverse = torch.linalg.cholesky(torch.linalg.inv(h[order][:, order]), upper=True)
    w, values, scales = weight.double()[:, order], torch.zeros(rows, features), torch.zeros(rows, features // block)
    for i, column in enumerate(order):
        if i % block == 0:
            stored = grid.scales(w[:, i : i + block].float())[:, 0]
            unit = grid.units(stored)
            scales[:, column // block] = stored
        values[:, column] = grid.nearest((w[:, i] / unit.double()).float())
        error = (w[:, i] - values[:, column] * unit.double()) / inverse[i, i]
        w[:, i:] -= error[:, None] * inverse[i, i:]
    return values, scales


@pytest.mark.parametrize("kind", ["nvfp4", "fp8-channel", "fp8-tensor"])
def test_equal_to_the_textbook(kind):
    weight, x = weights(), inputs()
    grid = {
        "nvfp4": MaxOnly(scalar(weight)),
        "fp8-channel": Fp8Grid(fp8.channel_scales(weight)),
        "fp8-tensor": Fp8Grid(fp8.scale(weight.abs().amax())),
    }[kind]
    values, scales = textbook(weight, x.T @ x, grid)
    actual = round_weight(weight, x.T @ x, grid)
    # float32 against float64 may fall to the other side of a tie, and what follows in that row differs then
    assert (actual.values == values).all(1).float().mean() > 0.9 and (actual.scales == scales).float().mean() > 0.99


def dequantized(rounded, grid):
    return rounded.values * grid.units(rounded.scales).repeat_interleave(grid.block, 1)


def damage(weight, w_hat, x):
    return ((weight.float() - w_hat) @ x.T).square().sum().item()


def nearest_rounding(weight, grid):
    blocks = weight.float().reshape(-1, grid.block)
    unit = (
        grid.units(grid.scales(blocks)[:, :1])
        if isinstance(grid, Nvfp4Grid | Mxfp4Grid)
        else grid.s.expand(len(weight)).unsqueeze(1)
    )
    return (grid.nearest(blocks.reshape(len(unit), -1) / unit) * unit).reshape(weight.shape)


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp4", "fp8"])
def test_outputs_err_less_than_by_rounding_to_nearest(kind):
    weight, x, unseen = weights(), inputs(4096), inputs(8192)[4096:]
    grid = {"nvfp4": Nvfp4Grid(scalar(weight)), "mxfp4": Mxfp4Grid(), "fp8": Fp8Grid(fp8.channel_scales(weight))}[kind]
    w_hat, plain = dequantized(round_weight(weight, x.T @ x, grid), grid), nearest_rounding(weight, grid)
    assert damage(weight, w_hat, x) < 0.7 * damage(weight, plain, x)
    assert damage(weight, w_hat, unseen) < 0.7 * damage(weight, plain, unseen)


def test_searching_scales_beats_one_scale_and_scales_found_beforehand():
    weight, x = weights(), inputs()
    h, g = x.T @ x, scalar(weight)
    searched, one = (
        damage(weight, dequantized(round_weight(weight, h, grid), grid), x) for grid in (Nvfp4Grid(g), MaxOnly(g))
    )
    s = search(weight, g, h.diagonal())
    beforehand = damage(weight, fp4.dequantize(fp4.round_to(weight, s, g), s, g), x)
    assert searched < 0.9 * one and searched < 0.6 * beforehand


def test_one_block_takes_the_best_of_its_candidates():
    weight, x = weights(30, 16), inputs(100, 16)
    grid, h = Nvfp4Grid(scalar(weight)), x.T @ x
    every = grid.scales(weight.float())

    class Fixed(Nvfp4Grid):
        choice = 0

        def scales(self, target):
            return every[:, self.choice, None]

    def losses(values, scales):
        e = (weight.double() - values.double() * grid.units(scales).double()) @ damped_cholesky_(h.clone()).double()
        return e.square().sum(1)

    rounded = round_weight(weight, h, grid)
    tried = []
    for i in range(every.shape[1]):
        fixed = Fixed(grid.g)
        object.__setattr__(fixed, "choice", i)
        tried.append(losses(*textbook(weight, h, fixed)))
    assert (losses(rounded.values, rounded.scales) <= torch.stack(tried).amin(0) * (1 + 1e-4)).all()


def test_independent_inputs_leave_rounding_to_nearest_with_its_ties():
    """With a diagonal H nothing is fed on: the bytes are those of `fp4`, ties to even included."""
    row = torch.tensor([6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.75, -1.25, -1.75, -2.5, -3.5, -5, 0.5, -6])
    weight = row.repeat(3, 2).to(torch.bfloat16)
    g = torch.tensor(1 / 64)
    scales = torch.full((3, 2), 64.0).to(torch.float8_e4m3fn)
    rounded = round_weight(weight, torch.eye(32), MaxOnly(g))
    assert torch.equal(rounded.scales, scales.float())
    assert torch.equal(fp4.pack(fp4.encode(rounded.values)), fp4.round_to(weight, scales, g))
    assert rounded.values[0, :16].tolist() == [6, 0, 1, 1, 2, 2, 4, 4, -1, -1, -2, -2, -4, -4, 0.5, -6]


def test_packed_bytes_decode_to_the_values():
    weight, x = weights(), inputs()
    g, grid = scalar(weight), Nvfp4Grid(scalar(weight))
    packed, scales = quantize(weight, g, x.T @ x)
    assert (
        packed.dtype == torch.uint8
        and packed.shape == (40, 128)
        and scales.dtype == torch.float8_e4m3fn
        and scales.shape == (40, 16)
    )
    assert torch.equal(fp4.dequantize(packed, scales, g), dequantized(round_weight(weight, x.T @ x, grid), grid))


def test_mxfp4_scales_are_powers_of_two_that_the_format_stores():
    weight, x = weights(), inputs()
    rounded = round_weight(weight, x.T @ x, Mxfp4Grid())
    exponents = (rounded.scales.view(torch.int32) >> 23).to(torch.uint8)
    stored = mxfp4.dequantize(fp4.pack(fp4.encode(rounded.values)), exponents)
    assert torch.equal(stored, dequantized(rounded, Mxfp4Grid()))


def test_stacked_rows_equal_each_alone_and_the_bytes_repeat():
    weight, x = weights(), inputs()
    h, grid = x.T @ x, Nvfp4Grid(scalar(weight))
    whole, again = round_weight(weight, h, grid), round_weight(weight, h, grid)
    assert torch.equal(whole.values, again.values) and torch.equal(whole.scales, again.scales)
    parts = [round_weight(rows, h, grid).values for rows in weight.split(16)]
    assert (torch.cat(parts) == whole.values).float().mean() > 0.99  # matrix products may sum in another order


def test_dead_inputs_round_to_nearest():
    weight, x = weights(), inputs()
    x[:, 32:48] = 0
    x[:, 5] = 0
    actual = round_weight(weight, x.T @ x, MaxOnly(scalar(weight)))
    s = fp4.block_scales(weight, scalar(weight)).float()
    unit = (s[:, 2] * scalar(weight)).unsqueeze(1)
    assert torch.equal(actual.values[:, 32:48], nearest(weight[:, 32:48].float() / unit))


def test_a_group_of_zeros_stays_zero():
    packed, scales = quantize(torch.zeros(4, 32), torch.tensor(0.0), torch.eye(32))
    assert not packed.any() and (scales.float() == 1).all()


def test_fewer_tokens_than_features_and_duplicated_inputs():
    weight, x = weights(), inputs(20)
    x[:, 7] = x[:, 3]
    grid = Nvfp4Grid(scalar(weight))
    w_hat = dequantized(round_weight(weight, x.T @ x, grid), grid)
    assert torch.isfinite(w_hat).all() and damage(weight, w_hat, x) < 0.2 * damage(
        weight, nearest_rounding(weight, grid), x
    )


def test_features_that_are_not_whole_blocks_are_refused():
    with pytest.raises(CheckpointError, match="40 input features; expected a multiple of 16"):
        round_weight(weights(4, 40), torch.eye(40), Nvfp4Grid(torch.tensor(1.0)))
