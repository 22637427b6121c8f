"""A virtual checkpoint: the tensors of base + adapter, merged when they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from slipway.weights.lora import LoraAdapter
from slipway.weights.shards import Recipe, TensorInfo, WeightSource, require_finite


class MergedSource:
    """A WeightSource over base and adapter: floating tensors in bf16, whatever the base stores, rounded once."""

    def __init__(self, base: WeightSource, adapter: LoraAdapter) -> None:
        self._base, self._adapter = base, adapter
        self.updates = adapter.land(base)

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._base.metadata

    def names(self) -> list[str]:
        return self._base.names()

    def info(self, name: str) -> TensorInfo:
        info = self._base.info(name)
        return TensorInfo(torch.bfloat16, info.shape) if info.dtype.is_floating_point else info

    def recipe(self, name: str) -> Recipe:
        update = self.updates.get(name)
        if update is None:
            return self._base.recipe(name)
        if update.replacement:
            return Recipe(self._adapter.stored(), update.replacement, ())
        below = self._base.recipe(name)
        return Recipe(below.stored, below.name, (*below.updates, self._adapter.product(update)))

    def read(self, name: str) -> torch.Tensor:
        weight = self._base.read(name)
        if name in self.updates:
            weight = self._adapter.apply(weight, self.updates[name])
        if not weight.is_floating_point():
            return weight
        merged = weight.to(torch.bfloat16)
        require_finite(f"merged tensor {name}", merged)
        return merged
