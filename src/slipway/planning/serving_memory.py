"""Memory that serving a model takes, before an engine is built.

    weights    parameters x bytes of the type served (2 in bf16)
    KV cache   2 (keys, values) x layers x key-value heads x head width x 2 bytes (fp16) x slots x context tokens
    compute    micro-batch of 512 tokens x (vocabulary + 4 x (hidden + intermediate)) x 4 bytes
    process    0.3 GB: program, tokenizer, HTTP threads

The KV formula is Shoeybi and others' (arXiv:1909.08053) for multi-head and Shazeer's (arXiv:1911.02150) for shared
heads; llama.cpp allocates it whole at the start for `--ctx-size` tokens, in fp16, and keeps logits and activations of
`n_ubatch` = 512 tokens (its default). Latent attention stores kv_lora_rank + qk_rope_head_dim values a token and layer
(DeepSeek-V2, arXiv:2405.04434). An upper bound where layers keep less: sliding windows, convolutions, linear attention.

Parameters are counted in the safetensors headers of a model directory, not taken from a name: two packed 4-bit codes a
byte. Left out: the page cache that loading fills, and what else runs on the machine; `RESERVE` is for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError

BF16_BYTES = 2.0
MICRO_BATCH_TOKENS = 512
PROCESS_BYTES = 0.3e9
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
        return self.total <= (1 - RESERVE) * memory


def serving_memory(directory: Path, *, slots: int, context: int, weight_bytes: float = BF16_BYTES) -> ServingMemory:
    """Memory to serve the model in `directory` (config.json, safetensors) with `slots` requests of `context` tokens,
    its weights at `weight_bytes` a parameter. Raises CheckpointError when either file cannot be read."""
    config = _config(directory / "config.json")
    hidden, vocabulary = _size(config, "hidden_size", "n_embd"), _size(config, "vocab_size")
    inner = _size(config, "intermediate_size", "n_inner", default=4 * hidden)
    return ServingMemory(
        weights=parameters(directory) * weight_bytes,
        kv_cache=kv_values(config) * 2.0 * slots * context,
        compute=MICRO_BATCH_TOKENS * (vocabulary + 4.0 * (hidden + inner)) * 4.0,
    )


def kv_values(config: Mapping[str, Any]) -> int:
    """Values that attention keeps for one token, over all layers."""
    layers = _size(config, "num_hidden_layers", "n_layer")
    if latent := _size(config, "kv_lora_rank", default=0):
        return layers * (latent + _size(config, "qk_rope_head_dim", default=0))
    heads = _size(config, "num_attention_heads", "n_head")
    width = _size(config, "head_dim", default=0) or _size(config, "hidden_size", "n_embd") // heads
    return 2 * layers * _size(config, "num_key_value_heads", default=heads) * width


def parameters(directory: Path) -> int:
    """Parameters in the safetensors files of a directory, by their headers; a byte of U8 holds two. Raises
    CheckpointError when there is no such file, or one is damaged."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            f"model {directory}", "no *.safetensors", "a model directory with weights", "check the path"
        )
    return sum(_elements(file) for file in files)


def _elements(file: Path) -> int:
    try:
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(min(length, _MOST_HEADER)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(math.prod(one["shape"]) * (2 if one["dtype"] == "U8" else 1) for one in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise CheckpointError(
            f"shard {file}", f"header: {type(err).__name__}", "a safetensors file", "fetch or copy it again"
        ) from err


def _config(file: Path) -> dict[str, Any]:
    """config.json, with the keys of the text model that some nest."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {**document, **(document.get("text_config") or {})}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as err:
        raise CheckpointError(f"config {file}", type(err).__name__, "a model's config.json", "check the path") from err


def _size(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these keys that holds a whole number. Raises CheckpointError when none does and there is no
    default."""
    value = next((config[name] for name in names if isinstance(config.get(name), int)), default)
    if value is None:
        raise CheckpointError("config.json", f"no {names[0]}", "the sizes of the model", "check the model directory")
    return value
