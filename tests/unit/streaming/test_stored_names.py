"""A quantized directory says what the unquantized model was called and shaped like."""

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.streaming.stored_names import StoredNames
from slipway.weights.shards import Shards
from tests.support.families import write_family
from tests.support.stored import mxfp4_gpt_oss
from tests.support.streaming import quantized


def same_names_and_shapes(model, made):
    names, source = StoredNames(made), Shards.open(model)
    tied = {name for name in source.names() if name == "lm_head.weight" and name not in names}
    assert set(names.names()) - set(source.names()) == set()
    assert set(source.names()) - set(names.names()) == tied
    for name in names.names():
        assert names.info(name).shape == source.info(name).shape, name
    return names


@pytest.mark.parametrize(
    ("family", "fmt", "layout"),
    [
        ("llama", "nvfp4a16", "modelopt"),
        ("llama", "nvfp4a16", "compressed-tensors"),
        ("llama", "mxfp4", "compressed-tensors"),
        ("qwen2", "fp8-dynamic", "modelopt"),
        ("mixtral", "fp8-dynamic", "compressed-tensors"),
        ("gpt_oss", "nvfp4a16", "modelopt"),
    ],
)
def test_names_and_shapes_are_those_of_the_model(tmp_path, family, fmt, layout):
    model = write_family(family, tmp_path / "model")
    made = quantized(model, tmp_path / "made", format=fmt, layout=layout)
    names = same_names_and_shapes(model, made)
    assert names.quantized and names.quantized <= set(Shards.open(model).names())
    with pytest.raises(CheckpointError, match="quantized"):
        names.read(min(names.quantized))
    plain = next(name for name in names.names() if name not in names.quantized)
    assert names.read(plain).dtype in (torch.bfloat16, torch.float32)


def test_experts_as_gpt_oss_publishes_them(tmp_path):
    model = write_family("gpt_oss", tmp_path / "model")
    published = mxfp4_gpt_oss(tmp_path / "published")
    names = StoredNames(published)
    source = Shards.open(model)
    experts = [name for name in names.quantized if "experts" in name]
    assert experts and all(names.info(name).shape == source.info(name).shape for name in experts)


def test_a_plain_directory_has_nothing_quantized(tmp_path):
    model = write_family("llama", tmp_path / "model")
    names = same_names_and_shapes(model, model)
    assert names.quantized == frozenset()
    with pytest.raises(CheckpointError):
        names.info("nowhere")
