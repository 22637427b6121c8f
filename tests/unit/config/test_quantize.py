"""The quantize section: formats, methods and limits by name; calibration takes rows."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.quantize import CalibrationConfig, QuantizeConfig


@pytest.mark.parametrize(
    "keys",
    [
        {"format": "int4"},
        {"method": "awq"},
        {"layout": "gguf"},
        {"max_bits": 4},
        {"max_bits": 17},
        {"workers": 0},
        {"memory_budget_gb": 0},
        {"kv_cache": "int8"},
        {"device": "tpu"},
        {"compile": "maybe"},
    ],
    ids=str,
)
def test_what_is_no_format_method_or_limit_is_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        QuantizeConfig(**keys)


@pytest.mark.parametrize("keys", [{"samples": 0}, {"length": 15}, {"micro_batch": 0}], ids=str)
def test_calibration_takes_at_least_one_short_sequence(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        CalibrationConfig(**keys)


def test_the_head_stays_in_bf16_unless_asked_otherwise():
    assert QuantizeConfig().exclude == ["lm_head"]
    assert QuantizeConfig(compile=True).compile == "on"
