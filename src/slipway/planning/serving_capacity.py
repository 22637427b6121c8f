"""Users that a target serves at once, and the ways out when they are too few.

Per GPU, bytes, with n GPUs that share every layer (tensor parallel):

    room        memory of a GPU less `target.reserve_gb`; without a GPU, the machine's memory less 15%
    weights     bytes of the weights / n
    compute     activations of one step and the program: `serving_memory.gpu_step` and GPU_PROCESS_BYTES, or
                llama.cpp's buffers on a CPU
    request     values of its tokens, in whole blocks, x bytes of a KV value, and fp32 states (`planning.kv_cache`);
                on a GPU its logits

    users = (room - weights - compute - one block) / request, rounded down

The same figures as an engine's own plan (`engines/gpu_limits.py`), which refuses what does not fit: a test holds the
two together. Left out: buffers of NCCL beyond the allowance, and what other programs take; the reserve is for them. A
model whose cache is not known has no figure: UnknownCacheError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError
from slipway.planning.fit import gpu_room
from slipway.planning.kv_cache import LayerCache, cache_of, request_values, size_of, token_values
from slipway.planning.serving_memory import (
    GPU_PROCESS_BYTES,
    KV_BLOCK,
    PROCESS_BYTES,
    RESERVE,
    STATE_BYTES,
    default_step,
    gpu_logits,
    gpu_step,
    inner_size,
    llamacpp_compute,
    model_config,
    parameters,
    stored_bytes,
)
from slipway.planning.training_memory import embedding_parameters

BLOCK = 256  # contexts that are tried are multiples of it
FORMAT_BYTES = {"bf16": 2.0, "fp8": 1.0, "mxfp4": 0.5 + 1 / 32, "nvfp4": 0.5 + 1 / 16}  # a weight, with its scales
KV_FORMATS = {"bf16": 2.0, "fp8": 1.0}


@dataclass(frozen=True)
class ServedModel:
    """A model by what serving it takes: bytes of all its weights, its config.json's keys."""

    name: str
    weights: float
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Wish:
    """What is to be served: requests at once, tokens of each, format of the KV cache, whether sliding windows are used,
    GPUs that share every layer, tokens of one step (None: by the context)."""

    users: int
    context: int
    kv: str = "bf16"
    windowed: bool = False
    tensor_parallel: int = 1
    batched_tokens: int | None = None


@dataclass(frozen=True)
class WayOut:
    """One change of a wish or a target: what it is, the key that makes it, the users that are then served, and whether
    the wish's are among them."""

    name: str
    change: str
    users: int
    enough: bool


@dataclass(frozen=True)
class Capacity:
    """What one GPU of a target holds, bytes, and the users that are served with it; `token` is what one more token of a
    request takes while no window is full."""

    target: str
    wish: Wish
    room: float
    weights: float
    compute: float
    token: float
    request: float
    users: int
    ways_out: tuple[WayOut, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether all users that are wished for are served at once."""
        return self.users >= self.wish.users

    def rows(self) -> list[tuple[str, str]]:
        """The figures as a table for people: (what, value)."""
        figures = [
            ("room on a GPU", f"{self.room / 1e9:,.1f} GB"),
            ("weights", f"{self.weights / 1e9:,.1f} GB"),
            ("compute, graphs, program", f"{self.compute / 1e9:,.1f} GB"),
            ("KV cache of a token", f"{self.token / 1e3:,.1f} kB"),
            (f"KV cache of a request, {self.wish.context:,} tokens", f"{self.request / 1e6:,.1f} MB"),
            ("users at once", f"{self.users:,} of {self.wish.users:,} asked for"),
        ]
        ways = [
            (f"way out: {way.name}", f"{way.change}: {way.users:,}{part} users")
            for way in self.ways_out
            for part in ("" if way.enough else f" of {self.wish.users:,}",)
        ]
        return figures + ways


def model_in(directory: Path, weights: str | None = None) -> ServedModel:
    """The model of a directory, its weights as they are stored, or in another of FORMAT_BYTES with embedding and head
    in bf16. Raises CheckpointError for a directory that cannot be read."""
    config = model_config(directory)
    if weights is None:
        return ServedModel(directory.name, stored_bytes(directory), config)
    tied = config.get("tie_word_embeddings", True)
    embedding = size_of(config, "vocab_size") * size_of(config, "hidden_size", "n_embd") * (1 if tied else 2)
    return ServedModel(directory.name, _bytes(parameters(directory), embedding, weights), config)


def model_of(model: ModelConfig, weights: str) -> ServedModel:
    """The model of a row of conf/models: from its directory where that is there, else as the row describes it."""
    directory = Path(model.directory or "").expanduser()
    if model.directory and (directory / "config.json").is_file() and any(directory.glob("*.safetensors")):
        return model_in(directory, weights)
    return model_of_row(model, weights)


def model_of_row(model: ModelConfig, weights: str) -> ServedModel:
    """The model that a row of conf/models describes, before its weights are there. The rows describe decoders of the
    Llama kind; a directory is needed for others."""
    config = {
        "model_type": "llama",
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate * max(1, model.experts_per_token),
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocabulary,
    }
    return ServedModel(model.name, _bytes(model.parameters_b * 1e9, embedding_parameters(model), weights), config)


def serving_capacity(
    model: ServedModel,
    wish: Wish,
    target: TargetConfig,
    others: Sequence[TargetConfig] = (),
    *,
    memory: float | None = None,
) -> Capacity:
    """Users of `wish` that `target` serves, with the ways out when they are too few; `others`: targets that may be had
    instead. `memory`: bytes of the machine, for a target without a GPU. Raises UnknownCacheError for a model whose
    cache is not known, ConfigError for a wish that the target cannot be asked for."""
    caches = cache_of(model.config)
    _check(wish, target, size_of(model.config, "num_attention_heads", "n_head"))
    now = _capacity(model, caches, wish, target, memory)
    if now.fits:
        return now

    def users(other: Wish, where: TargetConfig = target) -> int:
        return _capacity(model, caches, other, where, memory).users

    return replace(now, ways_out=tuple(_ways_out(model, caches, wish, target, others, users)))


def _capacity(
    model: ServedModel, caches: tuple[LayerCache, ...], wish: Wish, target: TargetConfig, memory: float | None
) -> Capacity:
    gpus, config = wish.tensor_parallel, model.config
    room = gpu_room(target)
    if room is None:
        if memory is None:
            raise ConfigError(f"target {target.name}", "no GPU", "the machine's memory", "give it as `memory`")
        room = (1 - RESERVE) * memory
    hidden, inner, vocabulary = size_of(config, "hidden_size", "n_embd"), inner_size(config), _vocabulary(config)
    kv_bytes, token = KV_FORMATS[wish.kv], token_values(caches, gpus) * KV_FORMATS[wish.kv]
    if target.gpu_memory_gb:
        step = gpu_step(wish.batched_tokens or default_step(wish.context), hidden, inner, gpus)
        fixed, logits, block = step + GPU_PROCESS_BYTES, gpu_logits(vocabulary), KV_BLOCK
    else:
        fixed, logits, block = llamacpp_compute(hidden, inner, vocabulary) + PROCESS_BYTES, 0.0, 1
    context = math.ceil(wish.context / block) * block
    tokens, states = request_values(caches, context, gpus, windowed=wish.windowed)
    request, weights = tokens * kv_bytes + states * STATE_BYTES, model.weights / gpus
    users = math.floor(max(0.0, room - weights - fixed - token * block) / (request + logits))
    return Capacity(target.name, wish, room, weights, fixed + wish.users * logits, token, request, users)


def _vocabulary(config: Mapping[str, Any]) -> int:
    return size_of(config, "vocab_size")


def _ways_out(
    model: ServedModel,
    caches: tuple[LayerCache, ...],
    wish: Wish,
    target: TargetConfig,
    others: Sequence[TargetConfig],
    users: Callable[..., int],
) -> Iterator[WayOut]:
    """Each change by itself, the cheapest first: what a request holds, then how many there are, then more hardware."""

    def way(name: str, change: str, served: int) -> WayOut:
        return WayOut(name, change, served, served >= wish.users)

    contexts = range(BLOCK, wish.context, BLOCK)
    if shorter := next((c for c in reversed(contexts) if users(replace(wish, context=c)) >= wish.users), None):
        yield way("a shorter context", f"engine.context={shorter}", users(replace(wish, context=shorter)))
    if not wish.windowed and any(one.window for one in caches):
        served = users(replace(wish, windowed=True))
        tokens, states = request_values(caches, wish.context, wish.tensor_parallel)
        request = tokens * KV_FORMATS[wish.kv] + states * STATE_BYTES
        yield way("sliding windows", f"engine.kv_gb={min(served, wish.users) * request / 1e9:.1f}", served)
    if wish.kv != "fp8" and "fp8" in target.formats:
        yield way("FP8 KV cache", "engine.kv_dtype=fp8", users(replace(wish, kv="fp8")))
    if served := users(wish):
        yield WayOut("fewer users", f"engine.slots={served}", served, enough=False)
    heads = size_of(model.config, "num_attention_heads", "n_head")
    for gpus in _splits(heads, wish.tensor_parallel, target.gpus):
        served = users(replace(wish, tensor_parallel=gpus))
        if served >= wish.users or gpus == target.gpus:
            yield way("tensor parallel", f"{gpus} GPUs of {target.name} for each layer", served)
            break
    for other in sorted(others, key=lambda one: (not _is_more_of(one, target), one.nodes * one.gpus)):
        world = other.nodes * other.gpus
        sizes = [1, *_splits(heads, 1, world)] if not _is_more_of(other, target) else _splits(heads, 1, world)
        tries = [(gpus, users(replace(wish, tensor_parallel=gpus), other)) for gpus in sizes]
        best = next((one for one in tries if one[1] >= wish.users), tries[-1] if tries else None)
        if best and (best[1] >= wish.users or _is_more_of(other, target)) and other.name != target.name:
            name = "more of the same machine" if _is_more_of(other, target) else "another target"
            yield way(name, f"{other.name} with {best[0]} GPU(s) for each layer", best[1])


def _is_more_of(other: TargetConfig, target: TargetConfig) -> bool:
    """Whether `other` is several of the machine that `target` is one of: two Sparks beside a Spark."""
    same = (other.compute_capability, other.gpu_memory_gb) == (target.compute_capability, target.gpu_memory_gb)
    return same and other.nodes > target.nodes


def _splits(heads: int, above: int, world: int) -> list[int]:
    """Numbers of GPUs, more than `above`, at most `world`, that the heads divide into: powers of two."""
    return [n for n in (2, 4, 8, 16) if above < n <= world and heads % n == 0]


def _check(wish: Wish, target: TargetConfig, heads: int) -> None:
    if wish.kv not in KV_FORMATS:
        raise ConfigError("format of the KV cache", wish.kv, f"one of {', '.join(KV_FORMATS)}", "choose one of them")
    for name, value in (("users", wish.users), ("context", wish.context), ("batched tokens", wish.batched_tokens)):
        if value is not None and value < 1:
            raise ConfigError(name, value, "a whole number above zero", "give another")
    world, gpus = max(1, target.nodes * target.gpus), wish.tensor_parallel
    if not 1 <= gpus <= world or heads % gpus:
        raise ConfigError(
            "GPUs for each layer",
            gpus,
            f"at most {world} on {target.name}, a divisor of {heads} heads",
            "choose fewer, or another target",
        )


def _bytes(count: float, embedding: float, weights: str) -> float:
    """Bytes of `count` parameters in a format; embedding and head stay in bf16."""
    if weights not in FORMAT_BYTES:
        raise ConfigError("format of the weights", weights, f"one of {', '.join(FORMAT_BYTES)}", "choose one of them")
    return (count - embedding) * FORMAT_BYTES[weights] + embedding * FORMAT_BYTES["bf16"]
