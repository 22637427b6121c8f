"""Experts in MXFP4 under the names and shapes of the published gpt-oss."""

import pytest
import torch

from slipway.errors import ConfigError
from slipway.quantization import stacked_experts
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import GPT_OSS, LAYOUTS, Scheme, layout_named
from slipway.weights.shards import TensorInfo

MODULE, MXFP4 = "model.layers.0.mlp.experts.down_proj", FORMATS["mxfp4"]


def test_layouts_by_name():
    assert layout_named("gpt-oss") is GPT_OSS and layout_named("modelopt") is LAYOUTS["modelopt"]


def test_there_and_back():
    stacked = torch.randn(3, 64, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    info = stacked_experts.logical(TensorInfo(stacked.dtype, tuple(stacked.shape)))
    values = MXFP4.encode(stacked_experts.rows(stacked), torch.ones(()))
    shapes = MXFP4.outputs(info)
    stored = {role: GPT_OSS.store(MXFP4, role, values[role].reshape(its.shape)) for role, its in shapes.items()}
    places = GPT_OSS.places(MODULE, MXFP4, info)
    assert {role: (place.name, place.info.shape) for role, place in places.items()} == {
        "weight": (f"{MODULE}_blocks", (3, 6, 2, 16)),
        "scale": (f"{MODULE}_scales", (3, 6, 2)),
    }
    assert all(tuple(stored[role].shape) == place.info.shape for role, place in places.items())
    assert torch.equal(GPT_OSS.decode(MXFP4, stored), MXFP4.decode(values, torch.ones(())))


def test_what_has_no_place_is_refused():
    with pytest.raises(ConfigError, match=r"weight of l\.o_proj: shape \[8, 64\]; expected stacked experts"):
        GPT_OSS.places("l.o_proj", MXFP4, TensorInfo(torch.bfloat16, (8, 64)))
    with pytest.raises(ConfigError, match="layout gpt-oss: format fp8"):
        GPT_OSS.require(Scheme({MODULE: FORMATS["fp8"]}, [], kv_cache=False, version="1"))
    with pytest.raises(ConfigError, match="layout gpt-oss: kv_cache fp8"):
        GPT_OSS.require(Scheme({MODULE: MXFP4}, [], kv_cache=True, version="1"))
    with pytest.raises(ConfigError, match="KV scale in layout gpt-oss"):
        GPT_OSS.kv_scale("l.self_attn", "k", torch.ones(()))


def test_the_document_names_what_is_kept():
    scheme = Scheme({MODULE: MXFP4}, ["lm_head", "model.layers.0.mlp.router"], kv_cache=False, version="1")
    assert GPT_OSS.documents(scheme) == (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.router"]},
        None,
    )
