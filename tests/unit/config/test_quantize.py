"""The quantize section: formats, methods and limits by name; calibration takes rows."""

from __future__ import annotations

import pytest

from slipway.config.quantize import QuantizeConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_the_head_stays_in_bf16_unless_asked_otherwise():
    assert QuantizeConfig().exclude == ["lm_head"]
    assert QuantizeConfig(compile=True).compile == "on"


@pytest.mark.parametrize(
    ("keys", "engine", "wanted"),
    [
        ({"format": "fp8"}, "vllm", "shared"),
        ({"format": "fp8"}, "trtllm", "shared"),
        ({"format": "fp8"}, "trtllm-engine", "shared"),
        ({"format": "fp8"}, "llama.cpp", "own"),
        ({"format": "fp8", "fused_scales": "own"}, "vllm", "own"),
        ({"format": "fp8", "fused_scales": "shared"}, "llama.cpp", "shared"),
        ({"format": "nvfp4"}, "vllm", "own"),
        ({"format": "fp8-dynamic"}, "vllm", "own"),
        ({"format": "nvfp4", "rules": {"*.o_proj": "fp8"}}, "vllm", "shared"),
        ({"format": "nvfp4", "max_bits": 6}, "vllm", "shared"),
    ],
)
def test_auto_shares_scales_where_the_engine_would_requantize(keys, engine, wanted):
    section = QuantizeConfig(**keys).for_engine(engine)
    assert section.fused_scales == wanted
    assert section.for_engine("llama.cpp") == section


def test_keys_of_before_the_option_stay():
    """The key of a stage that writes own scales is that of when there was no option; of shared ones another."""
    document = QuantizeConfig(format="fp8").for_engine("llama.cpp").key_document()
    assert "fused_scales" not in document
    assert QuantizeConfig(format="fp8").for_engine("vllm").key_document() == {**document, "fused_scales": "shared"}


def test_shared_scales_without_fp8_are_refused_by_name():
    with pytest.raises(ValueError, match=r"fused_scales=shared: nothing of format nvfp4a16"):
        QuantizeConfig(fused_scales="shared")


BOUNDS: list[Bound] = [
    ("format", "int4", "mxfp4"),
    ("method", "awq", "gptq"),
    ("layout", "gguf", "compressed-tensors"),
    ("kv_cache", "int8", "fp8"),
    ("fused_scales", "max", "own"),
    ("rules", {"*.q_proj": "int3"}, {"*.q_proj": "bf16"}),
    ("max_bits", 4, 4.01),
    ("max_bits", 16.01, 16),
    ("calibration.samples", 0, 1),
    ("calibration.length", 15, 16),
    ("calibration.micro_batch", 0, 1),
    ("device", "tpu", "cuda"),
    ("compile", "maybe", "off"),
    ("memory_budget_gb", 0, 0.001),
    ("workers", 0, 1),
    ("max_shard_gb", 0, 0.001),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("quantize", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(QuantizeConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("fromat", "format"),
        ("calibration.sample", "samples"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("quantize", key, near)
