"""Experts that an adapter saves whole, by modules_to_save, on a base that stores them as tensors of their own.

gate_up_proj [E, 2I, H]:  W[e, :I] is gate_proj of expert e, W[e, I:] its up_proj
down_proj    [E, H, I]:   W[e] is down_proj of expert e
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slipway.errors import AdapterError
from slipway.weights.adapter_config import REFIT
from slipway.weights.adapter_tensors import AdapterTensors
from slipway.weights.computed import RowBlocks
from slipway.weights.shards import MergeRecipe, TensorInfo


@dataclass(frozen=True)
class SavedRows:
    """A tensor that is the rows `begin` to `end` of the adapter's tensor `name`, of all its experts one after another,
    [end - begin, columns]."""

    name: str
    begin: int
    end: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.name,)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """These rows as the adapter stores them, read when they are needed."""
        info = tensors.info(self.name)
        columns = info.shape[-1]

        def rows(begin: int, end: int) -> torch.Tensor:
            out = torch.empty((end - begin, columns), dtype=info.dtype)
            tensors.fetch(self.name, out, (self.begin + begin) * columns * info.dtype.itemsize)
            return out

        count = self.end - self.begin
        return MergeRecipe(RowBlocks(TensorInfo(info.dtype, (count, columns)), count, rows), below.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:  # noqa: ARG002
        """A whole tensor counts as a change."""
        return True


def saved_rows(
    name: str, shape: tuple[int, ...], stored: Sequence[str], experts: int, theirs: tuple[int, ...]
) -> dict[str, SavedRows]:
    """Stored tensor -> its rows of the adapter's tensor `name` [experts, outputs, inputs]. `stored`: those of every
    expert, of shape `theirs`, in the order in which the class stacks them. Raises AdapterError where they do not fit.
    """
    if shape != (experts, len(stored) // experts * theirs[0], theirs[1]):
        expected = f"the rows of {len(stored)} tensors {list(theirs)} of {experts} experts, the first one {stored[0]}"
        raise AdapterError(f"adapter tensor {name}", f"shape {list(shape)}", expected, REFIT)
    return {target: SavedRows(name, i * theirs[0], (i + 1) * theirs[0]) for i, target in enumerate(stored)}
