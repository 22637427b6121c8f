"""FP8 by hand: ties, signed zero, saturation, subnormals, zero tensors and channels."""

import torch

from slipway.quantization import fp8

ONE = torch.tensor(1.0)


def codes(*values, quantize=fp8.quantize_rounded, s=ONE):
    return quantize(torch.tensor([values], dtype=torch.bfloat16), s).view(torch.uint8).tolist()[0]


def test_golden_bytes():
    assert float(fp8.scale(torch.tensor(448.0))) == 1.0
    for quantize in (fp8.quantize, fp8.quantize_rounded):
        assert codes(448.0, -448, 1, 1.5, 0.0, -0.0, quantize=quantize) == [0x7E, 0xFE, 0x38, 0x3C, 0x00, 0x80]


def test_ties_go_to_the_even_code():
    # steps of 1/8 between 1 and 2, of 2^-9 below 2^-6
    assert codes(1.0625, 1.1875, -1.0625, -1.1875) == [0x38, 0x3A, 0xB8, 0xBA]
    assert codes(2**-10, 3 * 2**-10, 5 * 2**-10) == [0x00, 0x02, 0x02]


def test_subnormals():
    assert codes(2**-9, 7 * 2**-9, 2**-6, 2**-11, -(2**-11)) == [0x01, 0x07, 0x08, 0x00, 0x80]


def test_out_of_range_saturates():
    assert codes(449.0, 464, 500, 1e30, -500) == [0x7E, 0x7E, 0x7E, 0x7E, 0xFE]


def test_the_quotient_is_rounded_to_bf16_first_for_a_linear_and_not_for_channels():
    s = 1 / torch.tensor(58.0625)  # steps of 4: the nearest is 60, but bf16 makes 58, the tie of 56 (even) and 60
    assert codes(1.0, s=s) == [0x66] and codes(1.0, s=s, quantize=fp8.quantize) == [0x67]


def test_channels_have_scales_of_their_own_and_zeros_have_1():
    weight = torch.tensor([[448.0, 1], [0, 0], [-7, 3.5]], dtype=torch.bfloat16)
    s = fp8.channel_scales(weight)
    assert s.dtype == torch.float32 and s.tolist() == [1.0, 1.0, 7 / 448]
    assert fp8.quantize(weight, s.unsqueeze(-1)).float().tolist() == [[448, 1], [0, 0], [-448, 224]]


def test_the_largest_value_is_reached():
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    s = fp8.scale(weight.abs().amax())
    assert float(fp8.quantize_rounded(weight, s).float().abs().max()) == 448.0
    assert bool((fp8.quantize(weight, fp8.channel_scales(weight).unsqueeze(-1)).float().abs().amax(-1) == 448).all())
