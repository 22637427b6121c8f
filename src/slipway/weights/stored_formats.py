"""Whether a checkpoint is quantized already, by its tensors and by its config, and what can be read of it.

| stored | weight | read as |
|---|---|---|
| MXFP4 of gpt-oss | `X_blocks` U8 [E, O, I/32, 16], `X_scales` U8 [E, O, I/32] | `X` bf16 [E, I, O] |
| FP8, blocks (DeepSeek) | `X.weight` E4M3 [O, I], `X.weight_scale_inv` [O/128, I/128] | `X.weight` bf16 [O, I] |
| FP8, compressed-tensors, modelopt | `X.weight` E4M3, `X.weight_scale` [], [1], [O], [O, 1] or of blocks | the same |

Scales of activations and of the KV cache (`input_scale`, `k_scale`, ...) belong to the quantized form and are left out.
Everything else is refused by name: its numbers mean nothing without the library that wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo

MX_BLOCK = 32
READABLE_METHODS = ("mxfp4", "fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")  # some of what they write
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)
_OF_ACTIVATIONS = ("input_scale", "output_scale", "activation_scale", "k_scale", "v_scale", "q_scale", "input_scale_ub")
_PACKED = {  # last part of a name -> whose it is
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "g_idx": "GPTQ",
    "weight_packed": "packed by compressed-tensors",
    "weight_scale_2": "NVFP4 of modelopt",
    "absmax": "bitsandbytes",
    "SCB": "bitsandbytes",
    "weight_format": "bitsandbytes",
}
_WAY_OUT = (
    "start from the 16-bit weights it was made of, or dequantize it with the library that wrote it; "
    "an engine can serve it as it is"
)


@dataclass(frozen=True)
class Packed:
    """A weight stored as codes and scales; `block`: (rows, columns) that share a scale of FP8."""

    kind: Literal["mxfp4", "fp8"]
    codes: str
    scales: str
    info: TensorInfo  # as it is read: bf16
    block: tuple[int, int] = (1, 1)


def packed_weights(infos: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> dict[str, Packed]:
    """Quantized weights that can be read, by the name they are read under; empty for a checkpoint in floating point.

    Raises CheckpointError for a quantized checkpoint of another kind, and for one whose config says so while its
    tensors do not.
    """
    packed: dict[str, Packed] = {}
    for name, info in infos.items():
        kind = _kind(name, info, infos)
        if kind == "mxfp4":
            entry = _mxfp4(name, info, infos)
            packed[name.removesuffix("_blocks")] = entry
        elif kind == "fp8":
            packed[name] = _fp8(name, info, infos, config)
        elif kind:
            raise _refused(f"tensor {name}", f"{kind}, {_words(info)}")
    method = quantization_method(config)
    if method and not packed:
        raise CheckpointError(
            "quantization_config of config.json",
            f"already quantized ({method}), by the config alone",
            "codes and scales among the tensors, or a config without it",
            f"take quantization_config out of config.json if the weights are 16-bit; else {_WAY_OUT}",
        )
    return packed


def left_out(infos: Mapping[str, TensorInfo], packed: Mapping[str, Packed]) -> set[str]:
    """Tensors that are part of the quantized form and not read under their own names."""
    parts = {part for entry in packed.values() for part in (entry.codes, entry.scales)} - packed.keys()
    return parts | ({name for name in infos if name.rpartition(".")[2] in _OF_ACTIVATIONS} if packed else set())


def quantization_method(config: Mapping[str, Any]) -> str:
    """What a config says a checkpoint is quantized by; '' when it says nothing, or null."""
    nested = config.get("text_config")
    for place in (config, nested if isinstance(nested, dict) else {}):
        section = place.get("quantization_config") or place.get("compression_config")
        if section:
            return str(section.get("quant_method", "unnamed") if isinstance(section, dict) else section)[:80]
    return ""


def _kind(name: str, info: TensorInfo, infos: Mapping[str, TensorInfo]) -> str:
    """'mxfp4' or 'fp8' for codes that can be read, other words for what cannot be, '' for everything else."""
    leaf = name.rpartition(".")[2]
    if name.endswith("_blocks") and info.dtype == torch.uint8:
        return "mxfp4" if f"{name.removesuffix('_blocks')}_scales" in infos else "blocks without scales"
    if leaf in _PACKED or "quant_state" in name:
        return _PACKED.get(leaf, "bitsandbytes")
    if info.dtype in _FP8:
        scaled = any(f"{name}{suffix}" in infos for suffix in ("_scale_inv", "_scale"))
        return "fp8" if scaled and len(info.shape) == 2 else "FP8 without a scale that is understood"
    if leaf == "weight" and len(info.shape) > 1 and info.dtype in _INTEGERS:
        return "integer codes"
    return ""


def _mxfp4(name: str, info: TensorInfo, infos: Mapping[str, TensorInfo]) -> Packed:
    scales = f"{name.removesuffix('_blocks')}_scales"
    shape, of_scales = info.shape, infos[scales]
    if len(shape) != 4 or shape[3] != MX_BLOCK // 2 or of_scales != TensorInfo(torch.uint8, shape[:3]):
        raise _refused(f"tensor {name}", f"{_words(info)} with scales {_words(of_scales)}")
    experts, outputs, blocks, _ = shape
    return Packed("mxfp4", name, scales, TensorInfo(torch.bfloat16, (experts, blocks * MX_BLOCK, outputs)))


def _fp8(name: str, info: TensorInfo, infos: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> Packed:
    scales = next(f"{name}{suffix}" for suffix in ("_scale_inv", "_scale") if f"{name}{suffix}" in infos)
    shape = infos[scales].shape
    for block in _blocks(info.shape, config):
        grid = tuple(-(-size // step) for size, step in zip(info.shape, block, strict=True))
        if shape == grid or (shape in ((), (1,)) and grid == (1, 1)) or (shape == grid[:1] and grid[1] == 1):
            return Packed("fp8", name, scales, TensorInfo(torch.bfloat16, info.shape), block)
    raise _refused(f"tensor {name}", f"{_words(info)} with scales {_words(infos[scales])}")


def _blocks(shape: tuple[int, ...], config: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """(rows, columns) that may share a scale: all, a row, or a block of the size that the config states, else 128."""
    yield shape[0], shape[1]
    yield 1, shape[1]
    section = config.get("quantization_config")
    size = section.get("weight_block_size") if isinstance(section, dict) else None
    if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size):
        yield size[0], size[1]
    else:
        yield 128, 128


def _words(info: TensorInfo) -> str:
    return f"{str(info.dtype).removeprefix('torch.')} {list(info.shape)}"


def _refused(thing: str, value: str) -> CheckpointError:
    return CheckpointError(
        thing, value, "weights in bf16, fp16 or fp32, MXFP4 of gpt-oss, or FP8 with scales", _WAY_OUT
    )
