"""compressed-tensors' names, shapes and reciprocals; `tests/flow/test_compressed_tensors.py` loads them with the
library."""

import pytest
import torch

from slipway.errors import ConfigError
from slipway.quantization.compressed_tensors_layout import CompressedTensors
from slipway.quantization.formats import FORMATS
from slipway.quantization.scheme import Scheme
from slipway.weights.shards import TensorInfo

LAYOUT = CompressedTensors()
INFO = TensorInfo(torch.bfloat16, (8, 64))


def places(fmt):
    return {role: (place.name, place.info.shape) for role, place in LAYOUT.places("m", FORMATS[fmt], INFO).items()}


def test_names_and_shapes():
    nvfp4 = {
        "weight": ("m.weight_packed", (8, 32)),
        "scale": ("m.weight_scale", (8, 4)),
        "scalar": ("m.weight_global_scale", (1,)),
    }
    assert places("nvfp4a16") == nvfp4 and places("nvfp4") == {**nvfp4, "input": ("m.input_global_scale", (1,))}
    assert places("mxfp4") == {"weight": ("m.weight_packed", (8, 32)), "scale": ("m.weight_scale", (8, 2))}
    assert places("fp8") == {
        "weight": ("m.weight", (8, 64)),
        "scalar": ("m.weight_scale", (1,)),
        "input": ("m.input_scale", (1,)),
    }
    assert places("fp8-dynamic") == {"weight": ("m.weight", (8, 64)), "scale": ("m.weight_scale", (8, 1))}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_stored_has_the_planned_shape_and_decodes(name):
    fmt = FORMATS[name]
    weight = torch.randn(INFO.shape, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    scale = fmt.scale(weight.abs().amax())
    values = fmt.encode(weight, scale)
    roles = {
        **values,
        **({"scalar": scale} if fmt.scalar else {}),
        **({"input": torch.tensor(0.5)} if fmt.activations == "static" else {}),
    }
    stored = {role: LAYOUT.store(fmt, role, value) for role, value in roles.items()}
    planned = LAYOUT.places("m", fmt, INFO)
    assert {role: TensorInfo(t.dtype, tuple(t.shape)) for role, t in stored.items()} == {
        role: place.info for role, place in planned.items()
    }
    torch.testing.assert_close(LAYOUT.decode(fmt, stored), fmt.decode(values, scale), rtol=3e-7, atol=0)


def test_scalars_of_nvfp4_are_divisors_and_those_of_fp8_are_not():
    assert LAYOUT.store(FORMATS["nvfp4"], "scalar", torch.tensor(0.25)).tolist() == [4.0]
    assert LAYOUT.store(FORMATS["nvfp4"], "input", torch.tensor(0.5)).tolist() == [2.0]
    assert LAYOUT.store(FORMATS["fp8"], "input", torch.tensor(0.5)).tolist() == [0.5]
    assert LAYOUT.store(FORMATS["nvfp4"], "scalar", torch.tensor(1e-44)).isfinite().all()


def test_kv_scales():
    name, value = LAYOUT.kv_scale("l.0.self_attn", "k", torch.tensor(7.0))
    assert name == "l.0.self_attn.k_scale" and value.tolist() == [7 / 448]
    config, document = LAYOUT.documents(Scheme({"l.0.o_proj": FORMATS["fp8"]}, ["lm_head"], kv_cache=True, version="1"))
    assert document is None and config["kv_cache_scheme"]["strategy"] == "tensor"


def test_stacked_experts_are_refused():
    with pytest.raises(ConfigError, match=r"weight of m\.experts\.down_proj: shape \[2, 8, 32\].*layout modelopt"):
        LAYOUT.places("m.experts.down_proj", FORMATS["nvfp4"], TensorInfo(torch.bfloat16, (2, 8, 32)))


def test_parts_of_what_a_runtime_fuses_are_refused():
    formats = {"l.q_proj": FORMATS["fp8"], "l.k_proj": FORMATS["nvfp4"]}
    with pytest.raises(ConfigError, match="one matmul"):
        LAYOUT.require(Scheme(formats, [], kv_cache=False, version="1"))
