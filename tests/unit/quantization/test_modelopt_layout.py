"""The unified export's names and documents; `tests/flow/test_modelopt_parity.py` compares them with modelopt's own."""

import json
from pathlib import Path

import pytest
import torch

from slipway.errors import ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.modelopt_layout import ModelOpt, summarize
from slipway.quantization.scheme import Scheme
from slipway.weights.shards import TensorInfo

LAYOUT = ModelOpt()
CONTRACTS = Path(__file__).parents[2] / "contracts" / "trtllm"
KNOWN = ("nvfp4", "nvfp4a16", "fp8", "fp8-dynamic")


def scheme(*names, unquantized=("lm_head",), kv_cache=False):
    return Scheme({f"l.{i}.o_proj": FORMATS[name] for i, name in enumerate(names)}, unquantized, kv_cache, "1")


def names(fmt):
    return {
        role: place.name
        for role, place in LAYOUT.places("m", FORMATS[fmt], TensorInfo(torch.bfloat16, (8, 32))).items()
    }


def test_names():
    assert names("nvfp4") == {
        "weight": "m.weight",
        "scale": "m.weight_scale",
        "scalar": "m.weight_scale_2",
        "input": "m.input_scale",
    }
    assert names("nvfp4a16") == {"weight": "m.weight", "scale": "m.weight_scale", "scalar": "m.weight_scale_2"}
    assert names("fp8") == {"weight": "m.weight", "scalar": "m.weight_scale", "input": "m.input_scale"}
    assert names("fp8-dynamic") == {"weight": "m.weight", "scale": "m.weight_scale"}


def test_kv_scales():
    name, value = LAYOUT.kv_scale("l.0.self_attn", "v", torch.tensor(7.0, dtype=torch.bfloat16))
    assert (
        name == "l.0.self_attn.v_proj.v_scale"
        and value.dtype == torch.float32
        and value.shape == ()
        and float(value) == 7 / 448
    )


@pytest.mark.parametrize("fmt", KNOWN)
def test_consumers_know_every_key_and_algorithm(fmt):
    known = {field["name"] for field in json.loads((CONTRACTS / "QuantConfig.json").read_text())["fields"]}
    algorithms = json.loads((CONTRACTS / "QuantAlgo.json").read_text())
    config, document = LAYOUT.documents(scheme(fmt, kv_cache=True))
    assert set(document["quantization"]) <= known
    assert document["quantization"]["quant_algo"] in algorithms["modelopt_export_quant_algo"]
    assert document["quantization"]["kv_cache_quant_algo"] in algorithms["KV_CACHE_QUANT_ALGO_LIST"]
    assert (config["ignore"], config["quant_method"]) == (document["quantization"]["exclude_modules"], "modelopt")


def test_a_mixture_names_every_layer():
    config, document = LAYOUT.documents(scheme("nvfp4", "fp8", "nvfp4"))
    layers = {"l.0.o_proj": {"quant_algo": "NVFP4", "group_size": 16}, "l.1.o_proj": {"quant_algo": "FP8"}}
    layers["l.2.o_proj"] = layers["l.0.o_proj"]
    assert document["quantization"] == {
        "kv_cache_quant_algo": None,
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": layers,
    }
    assert config["quantized_layers"] == layers and config["ignore"] == []
    assert [group["targets"] for group in config["config_groups"].values()] == [
        ["l.0.o_proj", "l.2.o_proj"],
        ["l.1.o_proj"],
    ]


@pytest.mark.parametrize(
    "fmts, match", [(["mxfp4"], "format mxfp4"), (["nvfp4", "fp8-dynamic"], "fp8-dynamic and nvfp4 in one model")]
)
def test_what_no_runtime_loads_is_refused(fmts, match):
    with pytest.raises(ConfigError, match=f"layout modelopt: {match}.*compressed-tensors"):
        LAYOUT.require(scheme(*fmts))


@pytest.mark.parametrize("fmts", [[name] for name in KNOWN] + [["nvfp4", "fp8"], ["nvfp4a16", "nvfp4", "fp8"]])
def test_the_rest_is_not(fmts):
    LAYOUT.require(scheme(*fmts))


def test_excluded_modules_are_summed_up_by_prefixes_that_hold_no_quantized_one():
    quantized = ["model.layers.0.q", "model.layers.30.q", "model.layers.4.mlp.up"]
    assert summarize(["lm_head", "model.embed_tokens"], quantized) == {"lm_head", "model.embed_tokens"}
    assert summarize(["model.layers.1.q", "model.layers.1.o"], quantized) == {"model.layers.1*"}
    assert summarize(["model.layers.3.q"], quantized) == {"model.layers.3.*"}  # `model.layers.3*` would take layer 30
    assert summarize(["model.layers.4.attn.q", "model.layers.4.mlp.down"], quantized) == {
        "model.layers.4.attn*",
        "model.layers.4.mlp.down",
    }
    assert summarize(["vision.blocks.0.q", "vision.proj"], quantized) == {"vision*"}
