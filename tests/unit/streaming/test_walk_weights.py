"""Weights of a walk: the merge as the quantizer reads it, the quantized model as a runtime computes with it."""

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.streaming.walk_weights import DequantizedWeights, MergedWeights, form_of
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards, TensorInfo
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import decoded, quantized

CPU = torch.device("cpu")
BF16 = torch.bfloat16
CASES = [
    ("nvfp4a16", "modelopt"),
    ("nvfp4a16", "compressed-tensors"),
    ("mxfp4", "compressed-tensors"),
    ("fp8-dynamic", "modelopt"),
    ("fp8-dynamic", "compressed-tensors"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("pico") / "model")


@pytest.mark.parametrize(("fmt", "layout"), CASES)
def test_every_format_and_layout_is_recognised_by_its_tensors(model, tmp_path, fmt, layout):
    made = quantized(model, tmp_path / "out", format=fmt, layout=layout)
    source = Shards.open(model)
    weights = DequantizedWeights(made, source, CPU, torch.float32)
    expected = decoded(model, made, fmt, layout)
    values = weights.load(source.names())
    assert values.keys() == expected.keys()
    assert [name for name in values if not torch.equal(values[name], expected[name])] == []
    assert weights.quantized == 28


def test_the_merge_is_the_one_that_is_quantized(model, tmp_path):
    source = MergedSource(Shards.open(model), LoraAdapter(pico_adapter(tmp_path / "adapter")))
    values = MergedWeights(source, frozenset(), CPU, torch.float32).load(source.names())
    assert [name for name in values if not torch.equal(values[name], source.read(name).float())] == []
    assert {value.dtype for value in values.values()} == {torch.float32}


def info(dtype, *shape):
    return TensorInfo(dtype, shape)


def test_what_is_stored_as_it_is_or_not_at_all_has_no_form():
    assert form_of("norm.weight", info(BF16, 8), {"norm.weight": info(BF16, 8)}) is None
    assert form_of("lm_head.weight", info(BF16, 64, 32), {}) is None


@pytest.mark.parametrize(
    "stored",
    [
        {"x.weight": info(torch.uint8, 8, 16), "x.weight_scale": info(torch.float16, 8, 2)},
        {"x.qweight": info(torch.int32, 4, 8)},
        {"x.weight": info(torch.float8_e4m3fn, 8, 32), "x.weight_scale_inv": info(torch.float32, 1, 1)},
    ],
)
def test_another_form_is_refused_by_name(stored):
    with pytest.raises(CheckpointError, match=r"tensor x.weight: stored .*expected one of nvfp4"):
        form_of("x.weight", info(BF16, 8, 32), stored)


def test_what_the_class_keeps_in_fp32_stays_so(tmp_path):
    """A router's bias in fp32 beside bf16 weights, in the merge and in the quantized model alike."""
    bias, weight = torch.tensor([1.0, 1.0 + 2.0**-20]), torch.zeros(2, 2, dtype=torch.bfloat16)
    save_file({"gate.bias": bias, "x.weight": weight}, tmp_path / "model.safetensors", {"format": "pt"})
    source = Shards.open(tmp_path)
    kept = frozenset({"gate.bias"})
    merged = MergedWeights(source, kept, CPU, torch.bfloat16).load(source.names())
    stored = DequantizedWeights(tmp_path, source, CPU, torch.bfloat16).load(source.names())
    for weights in (merged, stored):
        assert torch.equal(weights["gate.bias"], bias) and weights["x.weight"].dtype == torch.bfloat16
