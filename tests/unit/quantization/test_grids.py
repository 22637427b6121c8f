"""The numbers of each format: candidate scales by their bytes, and the nearest code with its ties."""

import pytest
import torch

from slipway.quantization import fp4
from slipway.quantization.grids import NEAR, WIDE, Fp8Grid, Mxfp4Grid, Nvfp4Grid, nearest, neighbours


def test_neighbours_are_the_bytes_around():
    scales = torch.tensor([1.0, 2.0**-9, 448.0]).to(torch.float8_e4m3fn)
    actual = neighbours(scales, WIDE).float()
    assert actual.shape == (3, len(WIDE)) and (actual[:, 0] == scales.float()).all()
    assert torch.equal(actual[:, : len(NEAR)], neighbours(scales).float())
    assert sorted(actual[0].tolist()) == [
        0.5,
        0.5625,
        0.625,
        0.6875,
        0.75,
        0.8125,
        0.875,
        0.9375,
        1,
        1.125,
        1.25,
        1.375,
        1.5,
        1.625,
        1.75,
    ]
    assert actual[1].min() == 2.0**-9 and actual[2].max() == 448  # no zero, no NaN


def test_nearest_is_encode_for_every_bf16_value_and_every_tie():
    everything = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0])
    around = torch.cat([torch.nextafter(ties, torch.tensor(to)) for to in (0.0, 9.0)] + [ties])
    x = torch.cat((everything[~everything.isnan()], around, -around))
    assert torch.equal(nearest(x), fp4.decode(fp4.encode(x)))
    assert nearest(ties).tolist() == [0, 1, 1, 2, 2, 4, 4, 6]


def test_nvfp4_candidates_begin_with_the_rules_scale_and_count_in_steps_of_g():
    target = torch.zeros(2, 16)
    target[0, 3] = -6.0  # max|block| / (6 g) = 4 for g = 1/4; the second block is all zeros and gets 1
    grid = Nvfp4Grid(torch.tensor(0.25))
    scales = grid.scales(target)
    assert grid.block == 16 and scales.dtype == torch.float32
    assert scales[0].tolist() == [4, 4.5, 3.75, 5, 3.5, 5.5, 6, 6.5, 7]
    assert scales[1].tolist() == [1, 1.125, 0.9375, 1.25, 0.875, 1.375, 1.5, 1.625, 1.75]
    assert torch.equal(grid.units(scales), scales / 4)
    assert torch.equal(Nvfp4Grid(torch.tensor(0.0)).units(scales), scales)  # a group of zeros divides by no zero
    assert grid.nearest(torch.tensor([2.5, -0.25, 100.0])).tolist() == [2, 0, 6]


def test_mxfp4_candidates_are_the_power_that_saturates_nothing_and_its_half():
    target = torch.zeros(4, 32)
    target[0, 0], target[1, 5], target[2, 7] = 6.0, -6.5, 1.5
    grid = Mxfp4Grid()
    scales = grid.scales(target)
    assert grid.block == 32 and scales[:3].tolist() == [[1, 0.5], [2, 1], [0.25, 0.125]]
    assert scales[3].tolist() == [2.0**-126] * 2  # zeros: the least normal power, whose byte is 1
    assert grid.units(scales) is scales
    assert grid.nearest(torch.tensor([5.0, -3.5, -7.0])).tolist() == [4, -4, -6]


@pytest.mark.parametrize("s, rows", [(torch.tensor(0.5), [[0.5], [0.5]]), (torch.tensor([0.5, 2.0]), [[0.5], [2.0]])])
def test_fp8_has_one_scale_for_the_tensor_or_for_each_row(s, rows):
    grid = Fp8Grid(s)
    scales = grid.scales(torch.ones(2, 16))
    assert scales.tolist() == rows and grid.units(scales) is scales


def test_fp8_rounds_to_the_nearest_e4m3_ties_to_even_and_saturates():
    # between 16 and 32 the step is 2; 2^-10 is half the least subnormal
    x = torch.tensor([17.0, 19.0, -21.0, 1000.0, -1000.0, 2.0**-10, 3 * 2.0**-10])
    assert Fp8Grid(torch.tensor(1.0)).nearest(x).tolist() == [16, 20, -20, 448, -448, 0, 2.0**-8]
