"""Quantized checkpoints are recognised by tensors and by config, read where that is understood, refused where not."""

import pytest
import torch

from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo
from slipway.weights.stored_formats import left_out, packed_weights, quantization_method

F8, U8, F32, BF16 = torch.float8_e4m3fn, torch.uint8, torch.float32, torch.bfloat16
X = "model.layers.0.mlp.up_proj"


def infos(**tensors):
    plain = {"model.norm.weight": (BF16, (64,))}
    return {name: TensorInfo(*info) for name, info in {**plain, **tensors}.items()}


def test_floating_point_is_not_quantized_and_null_says_nothing():
    assert packed_weights(infos(), {"quantization_config": None, "text_config": None}) == {}
    assert quantization_method({"text_config": {"quantization_config": {"quant_method": "awq"}}}) == "awq"
    assert quantization_method({"quantization_config": {}}) == ""


@pytest.mark.parametrize(
    "suffix, scales, block",
    [
        ("_scale", (), (256, 192)),
        ("_scale", (1,), (256, 192)),
        ("_scale", (256,), (1, 192)),
        ("_scale", (256, 1), (1, 192)),
        ("_scale_inv", (2, 2), (128, 128)),
    ],
)
def test_fp8_with_scales_that_are_understood(suffix, scales, block):
    stored = infos(
        **{f"{X}.weight": (F8, (256, 192)), f"{X}.weight{suffix}": (F32, scales), f"{X}.input_scale": (F32, ())}
    )
    packed = packed_weights(stored, {})
    assert packed[f"{X}.weight"].block == block and packed[f"{X}.weight"].info == TensorInfo(BF16, (256, 192))
    assert left_out(stored, packed) == {f"{X}.weight{suffix}", f"{X}.input_scale"}


def test_the_block_size_is_the_configs():
    stored = infos(**{f"{X}.weight": (F8, (96, 64)), f"{X}.weight_scale_inv": (F32, (3, 2))})
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}}
    assert packed_weights(stored, config)[f"{X}.weight"].block == (32, 32)
    with pytest.raises(CheckpointError, match=r"float8_e4m3fn \[96, 64\] with scales float32 \[3, 2\]"):
        packed_weights(stored, {})


def test_mxfp4_of_gpt_oss():
    stored = infos(
        **{"m.experts.down_proj_blocks": (U8, (4, 64, 3, 16)), "m.experts.down_proj_scales": (U8, (4, 64, 3))}
    )
    packed = packed_weights(stored, {})
    assert packed["m.experts.down_proj"].info == TensorInfo(BF16, (4, 96, 64))
    assert left_out(stored, packed) == {"m.experts.down_proj_blocks", "m.experts.down_proj_scales"}


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({f"{X}.qweight": (torch.int32, (8, 64))}, r"up_proj\.qweight: GPTQ or AWQ, int32"),
        ({f"{X}.weight": (U8, (2048, 1)), f"{X}.weight.absmax": (U8, (64,))}, "integer codes|bitsandbytes"),
        ({f"{X}.weight.quant_state.bitsandbytes__nf4": (U8, (80,))}, "bitsandbytes"),
        ({f"{X}.weight_packed": (U8, (64, 32))}, "packed by compressed-tensors"),
        ({f"{X}.weight": (U8, (64, 32)), f"{X}.weight_scale": (F8, (64, 4))}, "integer codes, uint8"),
        ({f"{X}.weight": (torch.int8, (64, 32)), f"{X}.SCB": (F32, (64,))}, "integer codes, int8|bitsandbytes"),
        ({f"{X}.weight": (F8, (64, 32))}, "FP8 without a scale"),
        ({f"{X}.weight": (F8, (4, 64, 32)), f"{X}.weight_scale": (F32, ())}, "FP8 without a scale that is understood"),
        ({"m.experts.down_proj_blocks": (U8, (4, 64, 3, 16))}, "blocks without scales"),
        (
            {"e.down_proj_blocks": (U8, (4, 64, 3, 8)), "e.down_proj_scales": (U8, (4, 64, 3))},
            r"uint8 \[4, 64, 3, 8\] with scales",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name_with_the_way_out(tensors, message):
    with pytest.raises(CheckpointError, match=message) as refused:
        packed_weights(infos(**tensors), {})
    assert "an engine can serve it as it is" in str(refused.value)


def test_a_config_that_says_quantized_over_plain_tensors_is_refused():
    with pytest.raises(CheckpointError, match=r"already quantized \(awq\), by the config alone"):
        packed_weights(infos(), {"quantization_config": {"quant_method": "awq"}})
