"""Which rounding a format gets from a method."""

import pytest
import torch

from slipway.errors import ConfigError
from slipway.quantization import fp4, gptq, scale_search
from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import FORMATS
from slipway.quantization.methods import adapted, encoder

KERNELS = Kernels(torch.device("cpu"), "off", 0)


def problem(seed=0, rows=24, columns=64):
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=random).to(torch.bfloat16)
    x = (
        torch.randn(512, columns, generator=random)
        * torch.linspace(0.1, 3, columns)
        @ torch.randn(columns, columns, generator=random)
    )
    return weight, x


def raw(values):
    return {role: tensor.contiguous().view(torch.uint8) for role, tensor in values.items()}


def equal(one, other):
    return all(torch.equal(raw(one)[role], raw(other)[role]) for role in one.keys() | other.keys())


@pytest.mark.parametrize("name", FORMATS)
def test_max_is_the_formats_own_rule_whatever_is_known_of_inputs(name):
    (weight, x), fmt = problem(), FORMATS[name]
    scale = fmt.scale(weight.abs().amax())
    for importance in (None, x.square().mean(0)):
        assert equal(encoder("max", KERNELS, importance)(fmt)(weight, scale), fmt.encode(weight, scale))


@pytest.mark.parametrize("name", ["mxfp4", "fp8", "fp8-dynamic"])
def test_formats_without_scales_to_search_are_rounded_by_max(name):
    (weight, _), fmt = problem(), FORMATS[name]
    scale = fmt.scale(weight.abs().amax())
    assert equal(encoder("mse", KERNELS)(fmt)(weight, scale), fmt.encode(weight, scale))


def test_mse_searches_scales_by_importance_when_there_is_one():
    (weight, x), fmt = problem(), FORMATS["nvfp4a16"]
    scale, importance = fmt.scale(weight.abs().amax()), x.square().mean(0)
    for given in (None, importance):
        codes_of = encoder("mse", KERNELS, given)(fmt)(weight, scale)
        scales = scale_search.search(weight, scale, given)
        assert torch.equal(codes_of["scale"].view(torch.uint8), scales.view(torch.uint8))
        assert torch.equal(codes_of["weight"], fp4.round_to(weight, scales, scale))
    assert not equal(
        encoder("mse", KERNELS)(fmt)(weight, scale), encoder("mse", KERNELS, importance)(fmt)(weight, scale)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_gptq_changes_outputs_less_than_max_in_the_layout_of_the_format(name):
    (weight, x), fmt = problem(), FORMATS[name]
    scale = fmt.scale(weight.abs().amax())
    plain, codes_of = fmt.encode(weight, scale), adapted(fmt, weight.float(), scale, x.T @ x)
    assert {role: (t.dtype, t.shape) for role, t in codes_of.items()} == {
        role: (t.dtype, t.shape) for role, t in plain.items()
    }
    errors = [float(((fmt.decode(codes, scale) - weight.float()) @ x.T).square().sum()) for codes in (codes_of, plain)]
    assert errors[0] < 0.7 * errors[1]
    if name.startswith("nvfp4"):
        packed, scales = gptq.quantize(weight.float(), scale, x.T @ x)
        assert torch.equal(codes_of["weight"], packed) and torch.equal(
            codes_of["scale"].view(torch.uint8), scales.view(torch.uint8)
        )


def test_gptq_wants_calibration():
    with pytest.raises(ConfigError, match=r"quantize\.method: gptq without calibration data"):
        encoder("gptq", KERNELS)
