"""How an adapter's names find the tensors of its base.

An adapter names modules of the model's class, as the transformers of its day had them; a checkpoint names tensors as
they were first published. Both become paths of the class (`architecture`), and meet there. A name that a checkpoint has
as it stands needs no class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.weights.architecture import Architecture
from slipway.weights.shards import TensorSource
from slipway.weights.weight_roles import architecture_of, is_tied

_SECOND = ("up_proj", "w3")  # of an expert's two projections that the class has in one tensor, the one behind
_EXPERT = re.compile(r"\.(\d+)\.([^.]+)\.weight")


class BaseNames:
    """The names of a base. Without `config` there is no class: modules are then as the tensors are named."""

    def __init__(self, base: TensorSource, config: Mapping[str, Any] | None) -> None:
        """Raises CheckpointError for a class that nobody knows."""
        self.base, self._names = base, frozenset(base.names())
        infos = {name: base.info(name) for name in base.names()}
        self._architecture: Architecture | None = architecture_of(config, infos) if config else None
        self.tied = bool(config and self._architecture and is_tied(self._architecture, config))
        self._stored: dict[str, list[str]] = {}
        for name in base.names():
            self._stored.setdefault(self._path(name), []).append(name)

    def tensor(self, name: str) -> str | None:
        """The stored tensor that an adapter calls `<module>.weight` or `<module>.bias`, or None."""
        if name in self._names:
            return name
        stored = [other for other in self._stored.get(self._path(name), ()) if _ending(other) == _ending(name)]
        return stored[0] if len(stored) == 1 else None

    def stacked(self, parameter: str) -> list[str]:
        """The stored tensors that the class has as one: `<module>.gate_up_proj` alone, or of every expert the two
        projections, in the order in which the class stacks them. Empty when it has no such parameter."""
        if parameter in self._names:
            return [parameter]
        return sorted(self._stored.get(self._path(parameter), ()), key=_place)

    def path(self, name: str) -> str:
        """The path in the class of the module of a tensor, as somebody names it."""
        return self._path(name)

    @staticmethod
    def experts(stored: Sequence[str]) -> int:
        """Of how many experts these tensors are, as their names count them."""
        return len({_place(name)[0] for name in stored})

    def is_rearranged(self, name: str) -> bool:
        """Whether the class has a stored weight in another order of its values: transposed, interleaved, permuted."""
        return self._architecture is not None and self._architecture.is_rearranged(name)

    def expert_parameters(self) -> list[str]:
        """What the class calls its stacked experts, without the number of the layer: `experts.gate_up_proj`."""
        stacked = (n for n in self._names if self.is_expert(n) or len(self.base.info(n).shape) == 3)
        return sorted({".".join(self._path(name).split(".")[-2:]) for name in stacked})

    def inputs_first(self, name: str) -> bool | None:
        """Whether a weight is stored [.., in, out]; None where no class says so. A head that is not stored is none."""
        if self._architecture is None or name not in self._names:
            return None if self._architecture is None else False
        role = self._architecture.role(name, len(self.base.info(name).shape))
        return None if role == "unknown" else role in ("transposed", "experts_in_first")

    def vocabulary(self) -> list[tuple[str, str, bool]]:
        """(embedding as it is stored, head as it is stored or else as the class names it, whether the two are tied)."""
        if self._architecture is None:
            return []
        pairs = []
        for head, embedding in self._architecture.ties.items():
            if stored := self.tensor(f"{embedding}.weight"):
                pairs.append((stored, self.tensor(f"{head}.weight") or f"{head}.weight", self.tied))
        return pairs

    def tied_embedding(self, name: str) -> str | None:
        """The stored embedding that stands for a head; None for another tensor, and where the two are not tied."""
        path = self._path(name)
        return next((e for e, head, tied in self.vocabulary() if tied and self._path(head) == path), None)

    def has_vocabulary(self, name: str) -> bool:
        """Whether a tensor has a row for every token: the embedding of the class, or its head."""
        if self._architecture is None:
            return name.endswith((".embed_tokens.weight", "lm_head.weight"))
        path, ties = self._path(name), self._architecture.ties
        return path in ties or path in ties.values()

    def modules(self) -> dict[str, str]:
        """Path of every module that has a weight of two axes -> the stored weight."""
        weights = (n for n in self.base.names() if n.endswith(".weight") and len(self.base.info(n).shape) == 2)
        return {n.removesuffix(".weight") if self.is_expert(n) else self._path(n): n for n in weights}

    def paths(self) -> dict[str, str]:
        """Every stored tensor -> its name in the class, `<path of the module>.weight` or `.bias`."""
        return {n: f"{self._path(n)}.{_ending(n)}" if _ending(n) in ("weight", "bias") else n for n in self._names}

    def is_expert(self, name: str) -> bool:
        """Whether a stored tensor is an expert's, and the class has those of all experts in one."""
        return len(self._stored.get(self._path(name), ())) > 1 and bool(_EXPERT.search(name))

    def _path(self, name: str) -> str:
        """The path in the class of a module as somebody names it; the module's own name where there is no class."""
        if self._architecture is not None:
            return self._architecture.path(name)
        return name.removesuffix(".weight").removesuffix(".bias")


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _place(name: str) -> tuple[int, bool]:
    match = _EXPERT.search(name)
    return (int(match[1]), match[2] in _SECOND) if match else (-1, False)
