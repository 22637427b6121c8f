"""Memory that serving a model takes, before an engine is built.

    weights    parameters x bytes of the type served (2 in bf16)
    KV cache   values of a token (`planning.kv_cache`) x 2 bytes (fp16) x slots x context tokens
    compute    micro-batch of 512 tokens x (vocabulary + 4 x (hidden + intermediate)) x 4 bytes
    process    0.3 GB: program, tokenizer, HTTP threads

llama.cpp allocates the cache whole at the start for `--ctx-size` tokens, in fp16, and keeps logits and activations of
`n_ubatch` = 512 tokens (its default). An upper bound where layers have a sliding window: all tokens are counted. How
many users a GPU serves, `planning.serving_capacity` says.

Parameters are counted in the safetensors headers of a model directory, not taken from a name: two packed 4-bit codes a
byte. Left out: the page cache that loading fills, and what else runs on the machine; `RESERVE` is for them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError
from slipway.planning.fit import fit
from slipway.planning.kv_cache import cache_of, request_values, size_of

BF16_BYTES = 2.0
KV_BYTES = 2.0
STATE_BYTES = 4.0  # recurrent states are fp32; convolutions may be bf16: an upper bound
MICRO_BATCH_TOKENS = 512
PROCESS_BYTES = 0.3e9
GPU_PROCESS_BYTES = 2.5e9  # CUDA context, libraries, NCCL, graphs: an allowance
KV_BLOCK = 64  # tokens; GPU engines cut the cache into blocks of 16 to 64
_SHORTEST_STEP, _LONGEST_STEP = 2048, 8192
RESERVE = 0.15  # share of the machine's memory that serving leaves to everything else
_MOST_HEADER = 100_000_000


@dataclass(frozen=True)
class ServingMemory:
    """Bytes that a served model takes."""

    weights: float
    kv_cache: float
    compute: float
    process: float = PROCESS_BYTES

    @property
    def total(self) -> float:
        """What must fit."""
        return self.weights + self.kv_cache + self.compute + self.process

    def fits(self, memory: float) -> bool:
        """Whether a machine with this many bytes serves the model and keeps its reserve."""
        return fit(self.total, (1 - RESERVE) * memory).fits


def serving_memory(directory: Path, *, slots: int, context: int, weight_bytes: float = BF16_BYTES) -> ServingMemory:
    """Memory to serve the model in `directory` (config.json, safetensors) with `slots` requests of `context` tokens,
    its weights at `weight_bytes` a parameter. Raises CheckpointError when either file cannot be read, UnknownCacheError
    when what the model's layers keep is not known."""
    config = model_config(directory)
    hidden, vocabulary = size_of(config, "hidden_size", "n_embd"), size_of(config, "vocab_size")
    tokens, states = request_values(cache_of(config), context, windowed=False)
    return ServingMemory(
        weights=parameters(directory) * weight_bytes,
        kv_cache=(tokens * KV_BYTES + states * STATE_BYTES) * slots,
        compute=llamacpp_compute(hidden, inner_size(config), vocabulary),
    )


def llamacpp_compute(hidden: int, inner: int, vocabulary: int) -> float:
    """Bytes of llama.cpp's buffers for one micro-batch."""
    return MICRO_BATCH_TOKENS * (vocabulary + 4.0 * (hidden + inner)) * 4.0


def gpu_step(tokens: int, hidden: int, inner: int, gpus: int) -> float:
    """Bytes of activations of one scheduler step of `tokens` on one of `gpus` GPUs: hidden state, residual, attention's
    and the gated layer's output in bf16; an estimate."""
    return tokens * (4.0 * hidden + 2.0 * inner) * 2 / gpus


def gpu_logits(vocabulary: int) -> float:
    """Bytes of the logits of one request: fp32, their softmax and a sorted copy."""
    return vocabulary * 12.0


def default_step(context: int) -> int:
    """Tokens of one scheduler step where nothing is said: a whole prompt within 2,048 to 8,192."""
    return min(max(context, _SHORTEST_STEP), _LONGEST_STEP)


def parameters(directory: Path) -> int:
    """Parameters in the safetensors files of a directory, by their headers; a byte of U8 holds two. Raises
    CheckpointError when there is no such file, or one is damaged."""
    return sum(
        math.prod(one["shape"]) * (2 if one["dtype"] == "U8" else 1)
        for file in _shards(directory)
        for one in _header(file).values()
    )


def stored_bytes(directory: Path) -> float:
    """Bytes of all tensors in the safetensors files of a directory. Raises CheckpointError as `parameters` does."""
    return float(sum(tensor_bytes(directory).values()))


def tensor_bytes(directory: Path) -> dict[str, int]:
    """Bytes of each tensor in the safetensors files of a directory. Raises CheckpointError as `parameters` does."""
    return {
        name: one["data_offsets"][1] - one["data_offsets"][0]
        for file in _shards(directory)
        for name, one in _header(file).items()
    }


def float_scalars(directory: Path, suffix: str) -> dict[str, float]:
    """Values of the fp32 tensors of one element whose names end in `suffix`. Raises CheckpointError as `parameters`
    does."""
    values = {}
    for file in _shards(directory):
        wanted = {
            name: entry["data_offsets"][0]
            for name, entry in _header(file).items()
            if name.endswith(suffix) and entry["dtype"] == "F32" and math.prod(entry["shape"]) == 1
        }
        with file.open("rb") as f:
            start = 8 + int.from_bytes(f.read(8), "little")
            for name, offset in wanted.items():
                f.seek(start + offset)
                values[name] = _float(f.read(4), name, file)
    return values


def _float(raw: bytes, name: str, file: Path) -> float:
    if len(raw) < 4:
        raise CheckpointError(f"tensor {name} in {file}", "cut off", "4 bytes", "fetch or copy the file again")
    return float(struct.unpack("<f", raw)[0])


def _shards(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            f"model {directory}", "no *.safetensors", "a model directory with weights", "check the path"
        )
    return files


def _header(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of a shard's header, their types checked."""
    try:
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(min(length, _MOST_HEADER)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        for one in tensors.values():
            math.prod(one["shape"]) * len(one["dtype"]) * (one["data_offsets"][1] - one["data_offsets"][0])
        return tensors
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as err:
        raise CheckpointError(
            f"shard {file}", f"header: {type(err).__name__}", "a safetensors file", "fetch or copy it again"
        ) from err


def inner_size(config: Mapping[str, Any]) -> int:
    """Width between the two products of an MLP, of all experts that a token passes through."""
    hidden = size_of(config, "hidden_size", "n_embd")
    dense = size_of(config, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    expert = size_of(config, "moe_intermediate_size", default=dense)
    return max(dense, expert * size_of(config, "num_experts_per_tok", default=1))


def model_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory, with the keys of the text model that some nest. Raises CheckpointError when it
    cannot be read."""
    file = directory / "config.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {**document, **(document.get("text_config") or {})}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as err:
        raise CheckpointError(f"config {file}", type(err).__name__, "a model's config.json", "check the path") from err
