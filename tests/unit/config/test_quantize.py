"""The quantize section: formats, methods and limits by name; calibration takes rows."""

from __future__ import annotations

import pytest

from slipway.config.quantize import QuantizeConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_the_head_stays_in_bf16_unless_asked_otherwise():
    assert QuantizeConfig().exclude == ["lm_head"]
    assert QuantizeConfig(compile=True).compile == "on"


BOUNDS: list[Bound] = [
    ("format", "int4", "mxfp4"),
    ("method", "awq", "gptq"),
    ("layout", "gguf", "compressed-tensors"),
    ("kv_cache", "int8", "fp8"),
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
