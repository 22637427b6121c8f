"""Tokens a second that the memory's bandwidth allows a decoding model: the roof over what an engine achieves.

    step     = bytes of weights that one step reads + B x c x bytes of a token's keys and values
    weights  = all that is not an expert and not a looked-up embedding + experts x (1 - (1 - k / E)^B)
    roof     = B x bandwidth x GPUs / step                                    tokens/s of B users with c tokens each

Decoding multiplies matrices by few vectors, so it is bound by what it reads and not by what it computes: the roofline
model of Williams, Waterman, Patterson (2009), CACM 52(4):65-76, at its left end; for transformers, Pope et al. (2022),
arXiv:2211.05102, section 2. The second factor is the share of E experts that B tokens with k each touch when routing is
uniform and independent; real routing is neither, and touches fewer. A tied embedding is read whole, as the head.

Left out: prompts (they are bound by compute, and take time from decoding), activations, communication between GPUs, and
speculation, which brings more than one token a step: an engine may stand above this roof.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.errors import CheckpointError, ConfigError
from slipway.planning.kv_cache import cache_of, request_values, size_of
from slipway.planning.serving_memory import STATE_BYTES, model_config, tensor_bytes

_EXPERT = re.compile(r"\.experts\.")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|tok_embeddings)\.weight$")


@dataclass(frozen=True)
class Roof:
    """What one decoding step of `users` reads, bytes, and the rate that it allows."""

    users: int
    context: int
    weights: float
    kv_cache: float
    tokens_per_s: float


def roof(
    directory: Path, bandwidth_gb_s: float, users: int, context: int, *, kv_bytes: float = 2.0, gpus: int = 1
) -> Roof:
    """The roof of the model in `directory` (config.json, safetensors) at `bandwidth_gb_s` GB/s of each GPU.

    Raises CheckpointError for a directory that cannot be read, and for a model whose cache or experts are not known.
    """
    if not (bandwidth_gb_s > 0 and users > 0 and context > 0 and gpus > 0):
        raise ConfigError("roofline", f"{bandwidth_gb_s} GB/s, {users} users", "figures above zero", "check the target")
    config = model_config(directory)
    weights = read_weights(directory, config, users)
    tokens, states = request_values(cache_of(config), context)
    kv_cache = users * (tokens * kv_bytes + states * STATE_BYTES)
    return Roof(users, context, weights, kv_cache, users * gpus * bandwidth_gb_s * 1e9 / (weights + kv_cache))


def read_weights(directory: Path, config: dict[str, Any], users: int) -> float:
    """Bytes of weights that one step of `users` tokens reads."""
    tensors = tensor_bytes(directory)
    experts = sum(size for name, size in tensors.items() if _EXPERT.search(name))
    looked_up = 0 if config.get("tie_word_embeddings") or not _has_head(tensors) else _embedding_bytes(tensors)
    dense = sum(tensors.values()) - experts - looked_up
    return dense + experts * _touched(directory, config, users) if experts else float(dense)


def figures(run: dict[str, Any], above: Roof) -> dict[str, Any]:
    """A speed run with its roof, and the share of it that was achieved."""
    return {**run, "roof": asdict(above), "of_roof": round(run["tokens_per_s"] / above.tokens_per_s, 4)}


def _touched(directory: Path, config: dict[str, Any], users: int) -> float:
    total = next((config[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in config), 0)
    each = size_of(config, "num_experts_per_tok", "experts_per_token", default=0)
    if not isinstance(total, int) or not 0 < each <= total:
        raise CheckpointError(
            f"config {directory}/config.json", f"{each} of {total} experts", "experts a token", "check the model"
        )
    return 1 - (1 - each / total) ** users


def _has_head(tensors: dict[str, int]) -> bool:
    return any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in tensors)


def _embedding_bytes(tensors: dict[str, int]) -> int:
    return sum(size for name, size in tensors.items() if _EMBEDDING.search(name))
