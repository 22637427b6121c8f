"""MXFP4 by hand and in exact arithmetic."""

import math
from fractions import Fraction

import pytest
import torch

from slipway.quantization import fp4, mxfp4


def row(*values):
    return torch.tensor([[*values, *[0.0] * (32 - len(values))]], dtype=torch.bfloat16)


def exponent(amax):
    return int(mxfp4.exponents(row(amax))) - 127


def codes(*values):
    packed, scales = mxfp4.quantize(row(6.0, *values))  # amax 6: e = 0
    assert scales.tolist() == [[127]]
    return fp4.unpack(packed).tolist()[0][1 : 1 + len(values)]


def test_golden_block():
    packed, scales = mxfp4.quantize(row(12.0, -12, 1, -1, 0.5, 1.5, 2.5, 3.5, 5, 7, 10, 0, -0.0, 11, 9, 8))
    assert packed.dtype == scales.dtype == torch.uint8
    assert scales.tolist() == [[128]]  # 2^1: codes are those of W / 2
    assert packed.tolist() == [[0xF7, 0x91, 0x20, 0x42, 0x64, 0x06, 0x70, 0x66] + [0] * 8]


def test_ties_go_to_the_even_code():
    assert codes(0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0) == [0, 2, 2, 4, 4, 6, 6]
    assert codes(-0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5.0) == [8, 10, 10, 12, 12, 14, 14]


def test_zeros_have_no_sign_and_small_values_keep_theirs():
    assert codes(0.0, -0.0, 2.0**-20, -(2.0**-20)) == [0, 0, 0, 8]


@pytest.mark.parametrize("k", [-126, -100, -3, 0, 1, 50, 125])
def test_the_exponent_is_the_least_that_saturates_nothing(k):
    assert exponent(6 * 2.0**k) == k
    assert exponent(6 * 2.0**k * (1 + 2**-7)) == k + 1  # the next bf16 number
    assert exponent(6 * 2.0**k * (1 - 2**-7)) == k


def test_the_exponent_agrees_with_exact_arithmetic():
    bits = torch.arange(0x0000, 0x7F80, 3, dtype=torch.int16).view(torch.bfloat16)  # a third of the finite bf16 numbers
    weight = torch.zeros(len(bits), 32, dtype=torch.bfloat16)
    weight[:, 7] = -bits
    for amax, e in zip(bits.tolist(), mxfp4.exponents(weight).flatten().tolist(), strict=True):
        least = max(e - 127, -127)
        assert Fraction(amax) <= 6 * Fraction(2) ** least
        assert least == -127 or Fraction(amax) > 6 * Fraction(2) ** (least - 1)


def test_the_ends_of_the_range():
    for amax, stored in (
        (0.0, 0),
        (2.0**-133, 0),
        (6 * 2.0**-127, 0),
        (6 * 2.0**-126, 1),
        (float(torch.finfo(torch.bfloat16).max), 253),
    ):
        assert int(mxfp4.quantize(row(amax, -amax))[1]) == stored
    tiny = row(2.0**-127, -(2.0**-128), 2.0**-130, 6 * 2.0**-127)
    assert mxfp4.dequantize(*mxfp4.quantize(tiny)).tolist()[0][:4] == [2.0**-127, -(2.0**-128), 0, 6 * 2.0**-127]


def test_values_agree_with_exact_arithmetic():
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    weight[3] = 0
    actual = mxfp4.dequantize(*mxfp4.quantize(weight))
    for values, result in zip(weight.reshape(-1, 32).tolist(), actual.reshape(-1, 32).tolist(), strict=True):
        largest = max(map(abs, values))
        unit = Fraction(2) ** (math.ceil(math.log2(largest / 6)) if largest else -127)
        for value, back in zip(values, result, strict=True):
            index = min(range(8), key=lambda i: (abs(Fraction(fp4.E2M1[i]) - abs(Fraction(value)) / unit), i % 2))
            assert abs(Fraction(back)) == Fraction(fp4.E2M1[index]) * unit
            assert back * value >= 0
