"""NVFP4 by hand, by an independent reference, and in bands as in one piece."""

import math
from fractions import Fraction

import pytest
import torch

from slipway.quantization import fp4


def codes(*values):
    return fp4.encode(torch.tensor(values, dtype=torch.float32)).tolist()


def test_the_grid_encodes_to_itself():
    assert codes(*fp4.E2M1) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert codes(*(-v for v in fp4.E2M1[1:])) == [9, 10, 11, 12, 13, 14, 15]
    assert fp4.decode(torch.arange(16, dtype=torch.uint8)).tolist() == [
        0,
        0.5,
        1,
        1.5,
        2,
        3,
        4,
        6,
        0,
        -0.5,
        -1,
        -1.5,
        -2,
        -3,
        -4,
        -6,
    ]


def test_ties_go_to_the_even_code():
    #      0|.5  .5|1  1|1.5  1.5|2  2|3  3|4  4|6
    assert codes(0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0) == [0, 2, 2, 4, 4, 6, 6]
    assert codes(-0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5.0) == [8, 10, 10, 12, 12, 14, 14]


def test_next_to_a_tie_the_nearer_wins():
    for tie, below, above in (
        (0.25, 0, 1),
        (0.75, 1, 2),
        (1.25, 2, 3),
        (1.75, 3, 4),
        (2.5, 4, 5),
        (3.5, 5, 6),
        (5.0, 6, 7),
    ):
        value = torch.tensor(tie)
        down, up = torch.nextafter(value, torch.tensor(0.0)), torch.nextafter(value, torch.tensor(9.0))
        assert codes(float(down), float(up)) == [below, above]


def test_signed_zero_and_saturation():
    assert codes(0.0, -0.0, -1e-9) == [0, 0, 8]
    assert codes(6.0, 6.9, 7.0, 100.0, -1e30) == [7, 7, 7, 7, 15]


def test_low_nibble_is_the_even_column():
    assert fp4.pack(torch.tensor([[1, 2, 15, 0, 0, 7, 8, 15]], dtype=torch.uint8)).tolist() == [
        [0x21, 0x0F, 0x70, 0xF8]
    ]
    packed = torch.arange(256, dtype=torch.uint8).reshape(2, 128)
    assert torch.equal(fp4.pack(fp4.unpack(packed)), packed)


def test_golden_block():
    # amax 6 * 448 makes g = 1; the block's amax 12 makes s = 2, so codes are those of W / 2
    g = fp4.global_scale(torch.tensor(2688.0))
    row = torch.tensor([[12.0, -12, 1, -1, 0.5, 1.5, 2.5, 3.5, 5, 7, 10, 0, -0.0, 11, 9, 8]], dtype=torch.bfloat16)
    packed, scales = fp4.quantize(row, g)
    assert float(g) == 1.0
    assert scales.view(torch.uint8).tolist() == [[0x40]]  # E4M3 2.0
    assert fp4.unpack(packed).tolist() == [[7, 15, 1, 9, 0, 2, 2, 4, 4, 6, 6, 0, 0, 7, 6, 6]]
    assert packed.tolist() == [[0xF7, 0x91, 0x20, 0x42, 0x64, 0x06, 0x70, 0x66]]


def test_a_zero_block_has_scale_one():
    weight = torch.zeros(1, 32, dtype=torch.bfloat16)
    weight[0, 16] = 4.0
    packed, scales = fp4.quantize(weight, fp4.global_scale(torch.tensor(4.0)))
    assert scales.float().tolist() == [[1.0, 448.0]]
    assert packed[0, :8].tolist() == [0] * 8


def test_a_zero_weight_stays_zero():
    packed, scales = fp4.quantize(torch.zeros(2, 16, dtype=torch.bfloat16), fp4.global_scale(torch.tensor(0.0)))
    assert packed.sum() == 0 and scales.float().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    "ratio, scale",
    [
        (1, 448.0),
        (2**9, 0.875),
        (2**16, 2**-7),
        (2**17, 2**-8),
        (2**18, 2**-9),
        (2**30, 2**-9),
    ],  # 3.5, 1.75, 0.875 subnormal steps
)
def test_small_blocks_have_subnormal_scales_and_a_floor(ratio, scale):
    weight = torch.zeros(1, 32, dtype=torch.bfloat16)
    weight[0, 0], weight[0, 16] = 2688, 2688 / ratio  # g is exactly 1
    _, scales = fp4.quantize(weight, fp4.global_scale(torch.tensor(2688.0)))
    assert scales.float().tolist() == [[448.0, scale]]


def reference_code(value: float) -> int:
    """The nearest grid value in exact arithmetic, ties to the even index."""
    a = abs(Fraction(value))
    index = min(range(8), key=lambda i: (abs(Fraction(fp4.E2M1[i]) - a), i % 2))
    return index | (8 if value < 0 else 0)


def test_encode_agrees_with_exact_arithmetic():
    values = torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(3)) * 3, torch.linspace(-8, 8, 4001)])
    assert fp4.encode(values).tolist() == [reference_code(v) for v in values.tolist()]


def test_error_is_within_half_a_step():
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    g = fp4.global_scale(weight.abs().max())
    packed, scales = fp4.quantize(weight, g)
    step = (scales.float() * g).repeat_interleave(16, 1)
    error = (fp4.dequantize(packed, scales, g) - weight.float()).abs()
    # the widest step of the grid is 2; the scale's own rounding (1/16) may cut the largest value by 6/16
    assert bool((error <= step * (1 + 6 / 16)).all())
    assert math.isclose(float(error.square().sum() / weight.float().square().sum()), 0.009, abs_tol=0.002)


def test_bands_of_rows_equal_the_whole():
    weight = torch.randn(40, 48, generator=torch.Generator().manual_seed(5)).to(torch.bfloat16)
    g = fp4.global_scale(weight.abs().max())
    whole, whole_scales = fp4.quantize(weight, g)
    parts = [fp4.quantize(rows, g) for rows in weight.split(7)]
    assert torch.equal(torch.cat([p for p, _ in parts]), whole)
    assert torch.equal(torch.cat([s.view(torch.uint8) for _, s in parts]), whole_scales.view(torch.uint8))
