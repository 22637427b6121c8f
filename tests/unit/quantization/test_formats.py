"""Every format keeps its promises: what it plans is what it makes, zeros stay zeros, bands are rows of the whole."""

import pytest
import torch

from slipway.errors import ConfigError
from slipway.quantization.formats import FORMATS
from slipway.weights.shards import TensorInfo

NAMES = ("nvfp4", "nvfp4a16", "mxfp4", "fp8", "fp8-dynamic")


def weight(rows=6, columns=64, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def raw(tensor):
    return tensor.reshape(-1).view(torch.uint8)


def test_the_names():
    assert tuple(FORMATS) == NAMES
    assert [FORMATS[name].activations for name in NAMES] == ["static", "none", "none", "static", "dynamic"]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_what_encode_makes(name):
    fmt, w = FORMATS[name], weight()
    made = fmt.encode(w, fmt.scale(w.abs().amax()))
    planned = fmt.outputs(TensorInfo(w.dtype, tuple(w.shape)))
    assert {role: TensorInfo(tensor.dtype, tuple(tensor.shape)) for role, tensor in made.items()} == planned
    channels = 32 / 64 if name == "fp8-dynamic" else 0
    assert 8 * sum(info.nbytes for info in planned.values()) / w.numel() == fmt.bits + channels


@pytest.mark.parametrize("name", NAMES)
def test_stacked_experts_are_rows(name):
    planned = FORMATS[name].outputs(TensorInfo(torch.bfloat16, (3, 6, 64)))
    rows = FORMATS[name].outputs(TensorInfo(torch.bfloat16, (18, 64)))
    assert {role: info.numel for role, info in planned.items()} == {role: info.numel for role, info in rows.items()}
    assert all(info.shape[:2] == (3, 6) for info in planned.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_weight_stays_zero(name):
    fmt, zeros = FORMATS[name], torch.zeros(2, 64, dtype=torch.bfloat16)
    scale = fmt.scale(zeros.abs().amax())
    assert float(scale) == 1.0
    assert torch.equal(fmt.decode(fmt.encode(zeros, scale), scale), zeros.float())


@pytest.mark.parametrize("name", NAMES)
def test_a_band_of_rows_is_a_band_of_the_whole(name):
    fmt, w = FORMATS[name], weight(37)
    scale = fmt.scale(w.abs().amax())
    whole, bands = fmt.encode(w, scale), [fmt.encode(rows, scale) for rows in w.split(5)]
    for role, tensor in whole.items():
        assert torch.equal(raw(torch.cat([band[role] for band in bands])), raw(tensor))


@pytest.mark.parametrize(
    "name, mse", [("nvfp4", 0.009), ("nvfp4a16", 0.009), ("mxfp4", 0.0137), ("fp8", 0.0007), ("fp8-dynamic", 0.0007)]
)
def test_the_error_is_that_of_the_format(name, mse):
    fmt, w = FORMATS[name], weight(64, 256)
    scale = fmt.scale(w.abs().amax())
    error = (fmt.decode(fmt.encode(w, scale), scale) - w.float()).square().sum() / w.float().square().sum()
    assert float(error) == pytest.approx(mse, rel=0.15)


def test_input_scales():
    amax = torch.tensor(21.0, dtype=torch.bfloat16)
    assert float(FORMATS["nvfp4"].input_scale(amax)) == 21 / 2688
    assert float(FORMATS["fp8"].input_scale(amax)) == 21 / 448
    nothing = torch.tensor(0.0)  # an expert that no token reached: ModelOpt's values
    assert float(FORMATS["nvfp4"].input_scale(nothing)) == pytest.approx(1 / 448)
    assert float(FORMATS["fp8"].input_scale(nothing)) == 1.0


@pytest.mark.parametrize("name", ["mxfp4", "fp8-dynamic"])
def test_formats_without_input_scales_say_so(name):
    with pytest.raises(ConfigError, match=rf"input scale of {name}.*static activations"):
        FORMATS[name].input_scale(torch.tensor(1.0))


def test_experts_stacked_in_one_tensor_have_a_format_or_are_refused():
    with pytest.raises(ConfigError, match=r"format fp8-dynamic: experts stacked in one tensor"):
        FORMATS["fp8-dynamic"].stacked()
    assert FORMATS["mxfp4"].stacked() is FORMATS["mxfp4"]


def test_stacked_fp8_rounds_once():
    w = weight(64, 64)
    fmt = FORMATS["fp8"]
    scale = fmt.scale(w.abs().amax())
    dense, stacked = (f.encode(w, scale)["weight"].view(torch.uint8) for f in (fmt, fmt.stacked()))
    assert torch.equal(stacked, (w.float() / scale).to(torch.float8_e4m3fn).view(torch.uint8))
    assert 0 < int((dense != stacked).sum()) < w.numel() / 20
