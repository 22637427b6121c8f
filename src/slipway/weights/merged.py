"""A virtual checkpoint: the tensors of base + adapter, merged when they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from slipway.weights.lora import LoraAdapter
from slipway.weights.shards import MergeRecipe, TensorInfo, WeightSource, require_finite


class MergedSource:
    """A WeightSource over base and adapter: floating tensors in bf16, whatever the base stores, rounded once."""

    def __init__(self, base: WeightSource, adapter: LoraAdapter) -> None:
        self._base, self._adapter = base, adapter
        self.updates = adapter.match(base)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._base.metadata

    def names(self) -> list[str]:
        """Tensor names in their natural order."""
        return self._base.names()

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor as it is read: bf16 where the base stores floats."""
        info = self._base.info(name)
        return TensorInfo(torch.bfloat16, info.shape) if info.dtype.is_floating_point else info

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: stored bytes and products to add."""
        update = self.updates.get(name)
        if update is None:
            return self._base.recipe(name)
        if update.replacement:
            return MergeRecipe(self._adapter.stored(), update.replacement, ())
        below = self._base.recipe(name)
        return MergeRecipe(below.stored, below.name, (*below.updates, self._adapter.product(update)))

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk of a tensor that the adapter leaves alone, else None."""
        return None if name in self.updates else self._base.as_stored(name)

    def read(self, name: str) -> torch.Tensor:
        """The merged tensor in bf16; others than floats as stored. Raises CheckpointError when it is not finite."""
        weight = self._base.read(name)
        if name in self.updates:
            weight = self._adapter.apply(weight, self.updates[name])
        if not weight.is_floating_point():
            return weight
        merged = weight.to(torch.bfloat16)
        require_finite(f"merged tensor {name}", merged)
        return merged
