"""A virtual checkpoint: the tensors of base + adapter, merged when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slipway.weights.base_names import BaseNames
from slipway.weights.lora import LoraAdapter
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import MergeRecipe, TensorInfo, WeightSource, natural, require_finite
from slipway.weights.updates import Stacked
from slipway.weights.vocabulary import replaced, settle


class MergedSource:
    """A WeightSource over base and adapter: floating tensors in bf16, whatever the base stores, rounded once.

    `config` is the base's config.json: without it no class is known, and every adapter tensor must be named as the base
    is. `untied`: heads that are tensors of their own in the merge, and were the embedding in the base.
    """

    def __init__(self, base: WeightSource, adapter: LoraAdapter, config: Mapping[str, Any] | None = None) -> None:
        names = BaseNames(base, config)
        self._base, self._tensors, self._config = base, adapter.tensors, config or {}
        self._vocabulary = settle(names, adapter.match(names), adapter.tensors)
        self.updates, self.untied = self._vocabulary.updates, self._vocabulary.untied
        self._names = sorted({*base.names(), *self.untied}, key=natural)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._base.metadata

    def config(self) -> dict[str, Any]:
        """The base's config.json with what the adapter changes of it: ties and the vocabulary's size."""
        return self._vocabulary.changed(self._config)

    @property
    def vocabulary_rows(self) -> int | None:
        """Rows of embedding and head, where an adapter brings more or fewer than the base has."""
        return self._vocabulary.rows

    def notes(self) -> list[str]:
        """What the adapter does, for a person."""
        zero = [name for name, update in self.updates.items() if not update.changes(self._tensors)]
        notes = [f"{len(self._tensors.names())} adapter tensors land on {len(self.updates)} base tensors"]
        if zero:
            notes.append(f"{len(zero)} of them change nothing, their products are zero: {', '.join(zero[:3])} ...")
        notes += [
            f"{head} is no longer {embedding}: the adapter changes one of them"
            for head, embedding in self.untied.items()
        ]
        if self.vocabulary_rows:
            notes.append(f"embedding and head have {self.vocabulary_rows} rows, as the adapter has them")
        return notes

    def names(self) -> list[str]:
        """Tensor names in their natural order."""
        return list(self._names)

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor as it is read: bf16 where the base stores floats."""
        whole = replaced(self.updates.get(name))
        info = self._tensors.info(whole) if whole else self._base.info(self._below(name))
        return TensorInfo(torch.bfloat16, info.shape) if info.dtype.is_floating_point else info

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: stored bytes and products to add."""
        update, below = self.updates.get(name), self._base.recipe(self._below(name))
        return update.recipe(below, self._tensors) if update else below

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk of a tensor that the adapter leaves alone, else None."""
        return None if name in self.updates else self._base.as_stored(self._below(name))

    def unchanged_experts(self, name: str) -> tuple[MergeRecipe, list[int]] | None:
        """The base's recipe of stacked experts that an adapter changes, and the experts that it leaves as they are."""
        update = self.updates.get(name)
        if not isinstance(update, Stacked):
            return None
        return self._base.recipe(self._below(name)), update.unchanged(self._tensors)

    def read(self, name: str) -> torch.Tensor:
        """The merged tensor in bf16; others than floats as stored. Raises CheckpointError when it is not finite."""
        recipe = self.recipe(name)
        weight = recipe.stored.read(recipe.name)
        for update in recipe.updates:
            weight = merge(weight, update)
        if not weight.is_floating_point():
            return weight
        merged = weight.to(torch.bfloat16)
        require_finite(f"merged tensor {name}", merged)
        return merged

    def _below(self, name: str) -> str:
        """The tensor of the base that one of the merge begins with."""
        return name if name not in self.untied or name in self._base.names() else self.untied[name]
