"""Which format an engine runs on which GPU, and what the kernels there compute in: data, first match wins.

A checkpoint's label is not what runs: W4A4 weights on a GPU without FP4 tensor cores are served weight-only, and its
scores are W4A16 scores. `computes` says so, and every report takes its word from there.

Sources: NVIDIA's support matrix of TensorRT-LLM (sm_90 has no NVFP4; sm_121 is taken as sm_120), its `QuantAlgo`, which
has no W4A16 form of NVFP4; vLLM 0.26 as run on an H100 (Marlin for NVFP4, Cutlass for FP8), vllm#31926 (MXFP4 of
compressed-tensors by Marlin) and vllm#56770 (taken for W4A4 on sm_100 and later), its documentation's table of
quantization and hardware (GPTQ, AWQ, bitsandbytes; columns from Volta to Hopper).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slipway.errors import ConfigError

# NVFP4 in vLLM's Marlin: block scales below 2^-6 of the largest become zero
_MARLIN = "runs weight-only, in Marlin: activations stay bf16, and block scales below 2^-6 of the largest vanish"
_OTHERS = ("gptq", "awq", "bitsandbytes")  # written by other makers, served as they are
_BEYOND_HOPPER = "vLLM's documentation lists this format up to Hopper only; look at its answers"
_MISREAD = "this vLLM may take weight-only MXFP4 for W4A4 here (vllm#56770); compare with the streamed reference"


@dataclass(frozen=True)
class Row:
    """`layouts` and `formats` that an engine runs on compute capabilities `low` to `high` (sm_90 is 90)."""

    engine: str
    layouts: tuple[str, ...]
    formats: tuple[str, ...]
    low: int
    high: int
    computes: str
    note: str = ""


_ALL = ("modelopt", "compressed-tensors")
_LAST = 129  # no GPU after Blackwell is known
TABLE = (
    Row("vllm", ("plain",), ("bf16",), 80, _LAST, "bf16"),
    Row("vllm", ("plain",), ("fp16",), 70, _LAST, "fp16"),
    Row("vllm", _ALL, ("fp8",), 89, _LAST, "W8A8 FP8"),
    Row("vllm", _ALL, ("fp8-dynamic",), 89, _LAST, "W8A8 FP8, a scale per token"),
    Row("vllm", _ALL, ("fp8", "fp8-dynamic"), 80, 88, "W8A16 FP8", "runs weight-only, in Marlin"),
    Row("vllm", ("fp8",), ("fp8-block",), 89, _LAST, "W8A8 FP8 in blocks"),
    Row("vllm", _ALL, ("nvfp4",), 100, _LAST, "W4A4 NVFP4"),
    Row("vllm", _ALL, ("nvfp4",), 80, 99, "W4A16 NVFP4", _MARLIN),
    Row("vllm", _ALL, ("nvfp4a16",), 80, _LAST, "W4A16 NVFP4", _MARLIN),
    Row("vllm", ("compressed-tensors",), ("mxfp4",), 80, 99, "W4A16 MXFP4", "runs weight-only, in Marlin"),
    Row("vllm", ("compressed-tensors",), ("mxfp4",), 100, _LAST, "W4A16 MXFP4", _MISREAD),
    *(Row("vllm", (name,), (name,), 80, 90, f"16-bit, weights in {name}") for name in _OTHERS),
    *(Row("vllm", (name,), (name,), 91, _LAST, f"16-bit, weights in {name}", _BEYOND_HOPPER) for name in _OTHERS),
    Row("vllm", ("gpt-oss",), ("mxfp4",), 80, _LAST, "W4A16 MXFP4"),
    Row("trtllm", ("plain",), ("bf16",), 80, 121, "bf16"),
    Row("trtllm", ("plain",), ("fp16",), 80, 121, "fp16"),
    Row("trtllm", ("modelopt",), ("fp8",), 89, 121, "W8A8 FP8"),
    Row("trtllm", ("modelopt",), ("fp8-dynamic",), 89, 121, "W8A8 FP8, a scale per token"),
    Row("trtllm", ("fp8",), ("fp8-block",), 90, 121, "W8A8 FP8 in blocks"),
    Row("trtllm", ("modelopt",), ("nvfp4",), 100, 121, "W4A4 NVFP4"),
    Row("trtllm", ("gpt-oss",), ("mxfp4",), 100, 121, "W4A8 MXFP4"),
    Row("trtllm-engine", ("plain",), ("bf16",), 80, 121, "bf16"),
    Row("trtllm-engine", ("plain",), ("fp16",), 80, 121, "fp16"),
)
# Why a format is refused, where the reason is known
_REASONS = {
    ("trtllm", "nvfp4", 90): "Hopper has no FP4 tensor cores, and TensorRT-LLM no weight-only NVFP4",
    ("trtllm", "nvfp4a16", None): "TensorRT-LLM has no weight-only NVFP4",
    ("trtllm-engine", None, None): "convert_checkpoint.py reads 16-bit checkpoints",
}
_ADVICE = ("fp8", "nvfp4", "nvfp4a16", "bf16")


@dataclass(frozen=True)
class Support:
    """What the kernels compute in, and what a person should know of it."""

    computes: str
    notes: tuple[str, ...]


def capability(name: str | None, target: str) -> int:
    """`sm_90` as 90. Raises ConfigError for a target without a GPU's compute capability."""
    match = re.fullmatch(r"sm_(\d{2,3})[a-z]?", name or "")
    if match is None:
        raise ConfigError(
            f"compute capability of target {target}",
            name or "none",
            "a GPU's, as sm_90",
            "choose a row of conf/targets with a GPU for `serving`, or give serving.compute_capability",
        )
    return int(match[1])


def require_support(engine: str, layout: str, formats: tuple[str, ...], sm: int) -> Support:
    """What `engine` computes in for a checkpoint of these formats on a GPU of this capability.

    Raises ConfigError naming the format, the GPU and what would run there.
    """
    rows = [_row(engine, layout, name, sm) for name in formats]
    computes = " and ".join(dict.fromkeys(row.computes for row in rows))
    return Support(
        computes, tuple(dict.fromkeys(f"{f}: {r.note}" for f, r in zip(formats, rows, strict=True) if r.note))
    )


def formats_of(engine: str, sm: int) -> list[tuple[str, str]]:
    """(format, layout) that an engine runs on a GPU of this capability."""
    rows = [row for row in TABLE if row.engine == engine and row.low <= sm <= row.high]
    return [(name, layout) for row in rows for name in row.formats for layout in row.layouts]


def _row(engine: str, layout: str, name: str, sm: int) -> Row:
    runs = (row for row in TABLE if row.engine == engine and row.low <= sm <= row.high)
    row = next((row for row in runs if layout in row.layouts and name in row.formats), None)
    if row is None:
        raise _refused(engine, layout, name, sm)
    return row


def _refused(engine: str, layout: str, name: str, sm: int) -> ConfigError:
    known = formats_of(engine, sm)
    keys = ((engine, name, sm), (engine, name, None), (engine, None, None))
    reason = next((f": {_REASONS[key]}" for key in keys if key in _REASONS), "")
    other_layout = [of for fmt, of in known if fmt == name]
    if other_layout:
        step = f"quantize with quantize.layout={other_layout[0]}"
    elif engine == "trtllm-engine" and known:
        step = "use engine.kind=trtllm, which loads quantized checkpoints itself, or serve the merge in bf16"
    else:
        step = next(
            (f"use quantize.format={fmt}" for fmt in _ADVICE if fmt in dict(known)), "use another engine or target"
        )
    runs = ", ".join(dict.fromkeys(f"{fmt} ({of})" for fmt, of in known)) or "nothing that is known"
    return ConfigError(
        f"format {name} ({layout}) for {engine} on sm_{sm}", f"does not run{reason}", f"one of {runs}", step
    )
