"""Which weights belong together: runtimes run q/k/v, or gate/up, as one matmul with one scalar, and all experts as one
kernel.

ModelOpt finds the members of a dense group by running the model: Linears whose input is the same tensor. Here they are
found by name, so that a plan needs no model; `_FUSED` names every projection that shares an input in the architectures
that transformers and the runtimes know by these names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan of an engine groups names without loading torch
    from slipway.quantization.formats import Sharing

_FUSED = (
    ("q_proj", "k_proj", "v_proj"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),  # Mixtral's names for gate and up
    ("q_a_proj", "kv_a_proj_with_mqa"),  # latent attention
    ("in_proj_qkv", "in_proj_z"),  # gated delta net
)
_EXPERT = re.compile(r"(.*\.experts)\.(?:\d+\.|(?:gate_up|up|down)_proj$)")  # one of a list, or all in one tensor


def module(weight: str) -> str:
    """The module of a weight: `x.q_proj.weight` -> `x.q_proj`; a stacked `x.experts.down_proj` is its own."""
    return weight.removesuffix(".weight")


def container(name: str) -> str | None:
    """`x.mlp.experts` for anything of one expert, None for what is not."""
    match = _EXPERT.match(name)
    return match[1] if match else None


def groups(weights: Iterable[str], sharing: Sharing) -> list[list[str]]:
    """Weights that share a scalar, in the order of `weights`; the rest alone."""
    return _grouped(
        weights,
        lambda name: _family(name) if sharing == "fused" or (sharing == "experts" and container(name)) else name,
    )


def input_groups(weights: Iterable[str]) -> list[list[str]]:
    """Weights whose inputs share a scale: the fused ones, and over all experts of a layer, as ModelOpt calibrates."""
    return _grouped(weights, lambda name: (container(name), _family(name)[1]) if container(name) else _family(name))


def units(weights: Iterable[str]) -> list[list[str]]:
    """Weights that a runtime needs in one format: the fused ones, and all experts of a layer."""
    return _grouped(weights, lambda name: container(name) or _family(name))


def _family(weight: str) -> tuple[str, object]:
    parent, _, leaf = module(weight).rpartition(".")
    return parent, next((family for family in _FUSED if leaf in family), leaf)


def _grouped(weights: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for name in weights:
        groups.setdefault(key(name), []).append(name)
    return list(groups.values())
