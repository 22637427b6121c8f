"""What every tensor of a checkpoint is, by the class that its config.json names, before a byte of weights is read.

A class in `architecture_table` is looked up; another one, or one whose table lacks a matrix of the checkpoint (a config
that nobody verified), is asked of transformers. A class that transformers does not know is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from slipway.errors import CheckpointError
from slipway.weights.architecture import Architecture, Role
from slipway.weights.architecture_table import ARCHITECTURES
from slipway.weights.shards import TensorInfo, WeightSource

_CHUNK = 1 << 24  # bytes of two tensors that are compared at a time
_HALF = (torch.bfloat16, torch.float16)
_SMALL: tuple[Role, ...] = (
    "other",
    "router",
    "tower",
    "outside",
    "mtp",
)  # kept in fp32 where the rest of a model is 16-bit


@dataclass(frozen=True)
class WeightRoles:
    """`roles`: every tensor's; `paths`: module as stored -> its path in the class, where they differ; `repeated`: heads
    that are stored beside an equal embedding they are tied to; `tied_heads`: paths of heads that are the embedding;
    `fp32`: tensors stored in fp32 that stay so in a 16-bit model; `class_name`: of transformers."""

    roles: Mapping[str, Role]
    paths: Mapping[str, str] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    tied_heads: tuple[str, ...] = ()
    fp32: frozenset[str] = frozenset()
    class_name: str = ""

    def path(self, module: str) -> str:
        """The path in the class of a module as it is stored."""
        return self.paths.get(module, module)


def weight_roles(config: Mapping[str, Any], source: WeightSource) -> WeightRoles:
    """The roles of the tensors of `source`. Raises CheckpointError for a class that nobody knows, for tied weights of
    which none is stored, and for a head that is neither tied nor stored."""
    infos = {name: source.info(name) for name in source.names()}
    architecture = architecture_of(config, infos)
    roles = {name: architecture.role(name, len(info.shape), layer_count(config)) for name, info in infos.items()}
    paths = {name.removesuffix(".weight"): architecture.path(name) for name, info in infos.items() if info.shape}
    roles, repeated, tied = _with_ties(architecture, config, source, roles)
    return WeightRoles(
        roles,
        {module: path for module, path in paths.items() if module != path},
        repeated,
        tied,
        _fp32(architecture, roles, {name: info for name in infos if (info := source.as_stored(name))}),
        architecture.name,
    )


def architecture_of(config: Mapping[str, Any], infos: Mapping[str, TensorInfo]) -> Architecture:
    """The class that a config names, from the table or from transformers. Raises CheckpointError."""
    listed = config.get("architectures")
    name = listed[0] if isinstance(listed, list) and listed else None
    row = ARCHITECTURES.get(name) if isinstance(name, str) else _by_type(config.get("model_type"))
    if row is not None and not any(
        row.role(tensor, len(info.shape), layer_count(config)) == "unknown"
        for tensor, info in infos.items()
        if len(info.shape) > 1 and info.dtype.is_floating_point
    ):
        return row
    from slipway.weights.architecture_probe import probe

    try:
        return probe(config)
    except CheckpointError:
        if row is None:
            raise
        return row  # a class that is known; its config cannot be built here, what it lacks is kept by name


def _by_type(model_type: Any) -> Architecture | None:
    """A config without `architectures` is read as the language model of its type, as AutoModelForCausalLM does."""
    return next((row for row in ARCHITECTURES.values() if row.model_type == model_type), None)


def text_value(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """A key of the language model's config, which some classes nest."""
    nested = config.get("text_config")
    return (nested if isinstance(nested, dict) else {}).get(key, config.get(key, default))


def layer_count(config: Mapping[str, Any]) -> int | None:
    """Decoder layers by the config; what lies behind them in a checkpoint predicts further tokens (MTP)."""
    layers = text_value(config, "num_hidden_layers", text_value(config, "n_layer", None))
    return layers if isinstance(layers, int) else None


def is_tied(architecture: Architecture, config: Mapping[str, Any]) -> bool:
    """Whether the class, with this config, ties its head: by the key at the top, else by the default of the class; some
    classes also take it from their text part."""
    nested, value = config.get("text_config"), config.get("tie_word_embeddings")
    if architecture.tied_by_text and isinstance(nested, dict) and nested.get("tie_word_embeddings"):
        return True
    return architecture.tied_by_default if value is None else bool(value)


def _with_ties(
    architecture: Architecture, config: Mapping[str, Any], source: WeightSource, roles: Mapping[str, Role]
) -> tuple[dict[str, Role], frozenset[str], tuple[str, ...]]:
    """Roles with heads that are the embedding counted as such; heads stored twice; paths of tied heads.

    As transformers ties: to the one that is stored, to the embedding where both are stored and equal, and not at all
    where they differ.
    """
    stored = {architecture.path(name): name for name in roles if name.endswith(".weight")}
    roles, repeated, tied = dict(roles), set(), []
    for head, embedding in architecture.ties.items():
        own, other = stored.get(head), stored.get(embedding)
        if not is_tied(architecture, config):
            if own is None and other is not None:
                raise CheckpointError(
                    f"head {head}", "not stored, and not tied to the embedding", f"a tensor {head}.weight", _UNTIED
                )
            continue
        if own is None and other is None:
            raise CheckpointError(f"{head} and {embedding}", "neither is stored", "one of the two", _UNTIED)
        if own and other and not equal(source, own, other):
            continue
        tied.append(head)
        if own and other:
            repeated.add(own)
        elif own:
            roles[own] = "embedding"
    return roles, frozenset(repeated), tuple(tied)


def equal(source: WeightSource, one: str, other: str) -> bool:
    """Whether two tensors have the same values: the same stored bytes, and nothing merged into either."""
    info = source.as_stored(one)
    if info is None or info != source.as_stored(other):
        return False
    recipes, total = [source.recipe(name) for name in (one, other)], info.nbytes
    for start in range(0, total, _CHUNK):
        chunks = [torch.empty(min(_CHUNK, total - start), dtype=torch.uint8) for _ in recipes]
        for recipe, chunk in zip(recipes, chunks, strict=True):
            recipe.stored.fetch(recipe.name, chunk, start)
        if not torch.equal(*chunks):
            return False
    return True


def _fp32(architecture: Architecture, roles: Mapping[str, Role], stored: Mapping[str, TensorInfo]) -> frozenset[str]:
    """Tensors stored in fp32 that are to stay so: what the class never rounds, and, in a model whose weights are
    stored in 16 bits, norms, biases, routers, towers and MTP layers, which were left in fp32 on purpose."""
    halves = sum(info.nbytes for info in stored.values() if info.dtype in _HALF)
    half = 2 * halves > sum(info.nbytes for info in stored.values() if info.dtype == torch.float32)
    return frozenset(
        name
        for name, info in stored.items()
        if info.dtype == torch.float32 and (architecture.is_fp32(name) or (half and roles[name] in _SMALL))
    )


_UNTIED = "check tie_word_embeddings of config.json and the checkpoint's files"
