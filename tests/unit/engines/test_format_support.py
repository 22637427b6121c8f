"""Formats against GPUs: what runs, what it computes in, what is refused with which way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.engines.format_support import TABLE, capability, formats_of, require_support
from slipway.errors import ConfigError


@pytest.mark.parametrize(
    ("engine", "layout", "name", "sm", "computes"),
    [
        ("vllm", "modelopt", "nvfp4", 90, "W4A16 NVFP4"),
        ("vllm", "compressed-tensors", "nvfp4", 90, "W4A16 NVFP4"),
        ("vllm", "modelopt", "nvfp4", 100, "W4A4 NVFP4"),
        ("vllm", "modelopt", "nvfp4", 121, "W4A4 NVFP4"),
        ("vllm", "modelopt", "nvfp4a16", 121, "W4A16 NVFP4"),
        ("vllm", "modelopt", "fp8", 90, "W8A8 FP8"),
        ("vllm", "modelopt", "fp8", 86, "W8A16 FP8"),
        ("trtllm", "modelopt", "fp8", 90, "W8A8 FP8"),
        ("trtllm", "modelopt", "nvfp4", 121, "W4A4 NVFP4"),
        ("trtllm", "plain", "bf16", 90, "bf16"),
        ("trtllm-engine", "plain", "bf16", 90, "bf16"),
    ],
)
def test_what_the_kernels_compute_in(engine: str, layout: str, name: str, sm: int, computes: str) -> None:
    assert require_support(engine, layout, (name,), sm).computes == computes


def test_weights_of_four_bits_on_a_hopper_carry_a_note() -> None:
    (note,) = require_support("vllm", "modelopt", ("nvfp4",), 90).notes
    assert note.startswith("nvfp4: runs weight-only")
    assert require_support("vllm", "modelopt", ("nvfp4",), 100).notes == ()


def test_what_other_makers_quantized_is_served_as_it_is() -> None:
    assert require_support("vllm", "gptq", ("gptq",), 90).notes == ()
    (note,) = require_support("vllm", "awq", ("awq",), 121).notes
    assert "up to Hopper only" in note


def test_a_mixture_computes_in_all_of_its_formats() -> None:
    assert require_support("vllm", "modelopt", ("fp8", "nvfp4"), 100).computes == "W8A8 FP8 and W4A4 NVFP4"


@pytest.mark.parametrize(
    ("engine", "layout", "name", "sm", "reason", "step"),
    [
        ("trtllm", "modelopt", "nvfp4", 90, "no FP4 tensor cores", "use quantize.format=fp8"),
        ("trtllm", "modelopt", "nvfp4a16", 121, "no weight-only NVFP4", "use quantize.format=fp8"),
        ("trtllm", "compressed-tensors", "fp8", 100, "does not run", "quantize with quantize.layout=modelopt"),
        ("trtllm-engine", "modelopt", "fp8", 90, "16-bit checkpoints", "use engine.kind=trtllm"),
        ("vllm", "aqlm", "aqlm", 90, "does not run", "use quantize.format=fp8"),
        ("trtllm", "gptq", "gptq", 90, "does not run", "use quantize.format=fp8"),
        ("vllm", "modelopt", "fp8", 75, "does not run", "use another engine or target"),
        ("trtllm", "gpt-oss", "mxfp4", 90, "does not run", "use quantize.format=fp8"),
    ],
)
def test_what_does_not_run_is_refused_by_format_gpu_and_way_out(
    engine: str, layout: str, name: str, sm: int, reason: str, step: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        require_support(engine, layout, (name,), sm)
    message = str(refused.value)
    assert message.startswith(f"format {name} ({layout}) for {engine} on sm_{sm}")
    assert reason in message
    assert step in refused.value.next_step


def _computed(engine: str, layout: str, name: str, sm: int) -> str:
    try:
        return require_support(engine, layout, (name,), sm).computes
    except ConfigError:
        return "refused"


def test_the_document_s_table_is_this_one() -> None:
    text = Path("docs/engines.md").read_text()
    rows = [
        f"| `{engine}` | {name} ({layout}) | " + " | ".join(cells) + " |"
        for engine in ("vllm", "trtllm", "trtllm-engine")
        for name, layout in (
            *((name, "modelopt") for name in ("fp8", "fp8-dynamic", "nvfp4", "nvfp4a16")),
            *(("bf16", "plain"), ("mxfp4", "compressed-tensors"), ("mxfp4", "gpt-oss")),
            *((name, name) for name in ("gptq", "awq", "bitsandbytes")),
        )
        if set(cells := [_computed(engine, layout, name, sm) for sm in (90, 100, 121)]) != {"refused"}
    ]
    assert len(rows) > 10
    assert [row for row in rows if row not in text] == []


def test_a_capability_by_its_name() -> None:
    assert [capability(name, "t") for name in ("sm_90", "sm_121", "sm_90a")] == [90, 121, 90]
    for name in (None, "hopper", "sm_9"):
        with pytest.raises(ConfigError, match="compute capability of target t"):
            capability(name, "t")


def test_every_row_of_the_table_is_of_a_range_and_reachable() -> None:
    for row in TABLE:
        assert row.low <= row.high
        assert all((name, layout) in formats_of(row.engine, row.low) for name in row.formats for layout in row.layouts)
