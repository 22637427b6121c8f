"""Stacked experts: rows and back, and their names."""

import pytest
import torch

from slipway.quantization import stacked_experts
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.weights.shards import TensorInfo


@pytest.mark.parametrize("name", ["nvfp4", "fp8"])
def test_there_and_back(name):
    stacked = torch.randn(3, 32, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    fmt, layout = FORMATS[name].stacked(), LAYOUTS["modelopt"]
    info = stacked_experts.logical(TensorInfo(stacked.dtype, tuple(stacked.shape)))
    assert info.shape == (3, 6, 32)
    rows = stacked_experts.rows(stacked)
    assert torch.equal(rows[7], stacked[1, :, 1])
    scale = fmt.scale(stacked.abs().amax())
    values = fmt.encode(rows, scale)
    stored = {role: layout.store(fmt, role, values[role].reshape(its.shape)) for role, its in fmt.outputs(info).items()}
    places = layout.places("x.experts.gate_up_proj", fmt, info)
    assert {role: TensorInfo(t.dtype, tuple(t.shape)) for role, t in stored.items()} == {
        role: places[role].info for role in stored
    }
    assert torch.equal(layout.decode(fmt, {**stored, "scalar": scale}), fmt.decode(values, scale))


def test_names_of_stacked_experts():
    places = LAYOUTS["modelopt"].places("m.experts.down_proj", FORMATS["nvfp4"], TensorInfo(torch.bfloat16, (2, 8, 32)))
    assert {role: (place.name, place.info.shape) for role, place in places.items()} == {
        "weight": ("m.experts.down_proj", (2, 16, 8)),
        "scale": ("m.experts.down_proj_weight_scale", (2, 2, 8)),
        "scalar": ("m.experts.down_proj_weight_scale_2", ()),
        "input": ("m.experts.down_proj_input_scale", ()),
    }
