"""Checkpoints in MXFP4 and FP8 are read as transformers reads them, in any bands."""

import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from slipway.errors import CheckpointError
from slipway.weights.dequantized import DequantizedSource, open_weights, quantized_base, with_packed_experts
from slipway.weights.shards import Shards
from tests.support.families import write_family
from tests.support.pico import pico_model
from tests.support.stored import fp8_blocks, mxfp4_gpt_oss, rewrite

EXPERTS = "model.layers.1.mlp.experts.gate_up_proj"
WEIGHT = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory):
    return mxfp4_gpt_oss(tmp_path_factory.mktemp("mxfp4") / "model")


@pytest.fixture(scope="module")
def fp8(tmp_path_factory):
    return fp8_blocks("llama", tmp_path_factory.mktemp("fp8") / "model")


def test_a_plain_checkpoint_is_opened_as_it_is(tmp_path):
    assert isinstance(open_weights(pico_model(tmp_path / "m", layers=1)), Shards)


def test_mxfp4_is_what_transformers_makes_of_it(gpt_oss):
    source, stored = open_weights(gpt_oss), Shards.open(gpt_oss)
    assert isinstance(source, DequantizedSource) and quantized_base(source) == "mxfp4"
    assert EXPERTS in source and not [name for name in source.names() if name.endswith(("_blocks", "_scales"))]
    theirs = convert_moe_packed_tensors(stored.read(f"{EXPERTS}_blocks"), stored.read(f"{EXPERTS}_scales"))
    assert torch.equal(source.read(EXPERTS), theirs)


def test_fp8_is_code_times_the_scale_of_its_block(fp8):
    source, stored = open_weights(fp8), Shards.open(fp8)
    codes, scales = stored.read(WEIGHT).float(), stored.read(f"{WEIGHT}_scale_inv")
    expected = (codes * torch.kron(scales, torch.ones(32, 32))).to(torch.bfloat16)
    assert torch.equal(source.read(WEIGHT), expected) and quantized_base(source) == "fp8"
    assert source.as_stored(WEIGHT) is None and source.as_stored("model.norm.weight") is not None


@pytest.mark.parametrize("rows", [1, 7, 64, 100])
@pytest.mark.parametrize("kind", ["gpt_oss", "fp8"])
def test_bands_make_up_the_whole(kind, rows, request):
    source, name = open_weights(request.getfixturevalue(kind)), EXPERTS if kind == "gpt_oss" else WEIGHT
    whole, columns = source.read(name).flatten(0, -2), source.info(name).shape[-1]
    recipe = source.recipe(name)
    bands = []
    for first in range(0, len(whole), rows):
        band = torch.empty((min(rows, len(whole) - first), columns), dtype=torch.bfloat16)
        recipe.stored.fetch(recipe.name, band, first * columns * 2)
        bands.append(band)
    assert torch.equal(torch.cat(bands), whole)


def test_an_exponent_out_of_range_is_not_finite_and_refused(tmp_path):
    def change(tensors):
        return {n: torch.full_like(t, 255) if n.endswith("_scales") else t for n, t in tensors.items()}

    model = rewrite(mxfp4_gpt_oss(tmp_path / "model"), change, {"quant_method": "mxfp4"})
    with pytest.raises(CheckpointError, match=r"gate_up_proj.*NaN or Inf"):
        open_weights(model).read(EXPERTS)


def test_gptq_is_refused_when_it_is_opened(tmp_path):
    model = write_family("llama", tmp_path / "model")
    rewrite(model, lambda t: {**t, "model.layers.0.q.qweight": torch.zeros(2, 2, dtype=torch.int32)}, None)
    with pytest.raises(CheckpointError, match="GPTQ or AWQ"):
        open_weights(model)


def test_experts_that_nothing_changes_may_stay_as_they_are_stored(gpt_oss, fp8):
    source, stored = open_weights(gpt_oss), Shards.open(gpt_oss)
    packed = with_packed_experts(source)
    assert packed.names() == stored.names() and EXPERTS not in packed.names()
    blocks = f"{EXPERTS}_blocks"
    assert torch.equal(packed.read(blocks), stored.read(blocks)) and packed.info(blocks) == stored.info(blocks)
    assert packed.as_stored("model.norm.weight") == source.as_stored("model.norm.weight")
    plain = open_weights(fp8)
    assert with_packed_experts(plain) is plain
