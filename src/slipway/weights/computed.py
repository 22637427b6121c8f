"""Tensors that no file holds as they are wanted: read from memory, or computed block by block when they are read.

Both stand where a file's tensors stand in a `MergeRecipe`, so that whoever reads in bands needs to know of neither.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch

from slipway.errors import CheckpointError
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, MergeRecipe, TensorInfo, require_finite


class InMemory:
    """Named tensors on the CPU, such as those of a pickled adapter."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], place: str) -> None:
        """`place` says in errors where the tensors come from."""
        self._tensors, self._place = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, place

    def names(self) -> list[str]:
        """Tensor names in the order they were given."""
        return list(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor. Raises CheckpointError when it is absent."""
        tensor = self._tensor(name)
        return TensorInfo(tensor.dtype, tuple(tensor.shape))

    def read(self, name: str) -> torch.Tensor:
        """A copy of the tensor. Raises CheckpointError when it is absent or holds NaN or Inf."""
        tensor = self._tensor(name).clone()
        require_finite(f"tensor {name} in {self._place}", tensor)
        return tensor

    def fetch(self, name: str, out: torch.Tensor, start: int) -> None:
        """Fill `out` with the bytes from byte `start` of the tensor, unchecked for NaN; thread-safe."""
        _copy_bytes(self._tensor(name), start, out)

    def _tensor(self, name: str) -> torch.Tensor:
        if name not in self._tensors:
            raise CheckpointError(f"tensor {name}", f"not in {self._place}", "a tensor of that name", "copy it again")
        return self._tensors[name]


class RowBlocks:
    """One tensor, its rows (all dimensions but the last) computed `block` at a time when they are read.

    `make(begin, end)` returns these rows, [end - begin, columns] of the dtype in `info`. A thread keeps the last block
    that it made, so that reading in small bands computes each once and holds one.
    """

    def __init__(self, info: TensorInfo, block: int, make: Callable[[int, int], torch.Tensor]) -> None:
        self._info, self._block, self._make = info, block, make
        self._rows = info.numel // max(info.shape[-1], 1)
        self._last = threading.local()

    def info(self, name: str) -> TensorInfo:  # noqa: ARG002 - there is one tensor
        """dtype and shape, whatever the name: there is one tensor."""
        return self._info

    def read(self, name: str) -> torch.Tensor:
        """The whole tensor. Raises CheckpointError when it holds NaN or Inf."""
        out = torch.empty(self._info.shape, dtype=self._info.dtype)
        self.fetch(name, out, 0)
        require_finite(f"merged tensor {name}", out)
        return out

    def fetch(self, name: str, out: torch.Tensor, start: int) -> None:  # noqa: ARG002 - there is one tensor
        """Fill `out` with the bytes from byte `start`; thread-safe."""
        size = self._block * self._info.shape[-1] * self._info.dtype.itemsize
        target, done = out.reshape(-1).view(torch.uint8), 0
        while done < target.numel():
            index, offset = divmod(start + done, size)
            count = min(size - offset, target.numel() - done)
            _copy_bytes(self._at(index), offset, target[done : done + count])
            done += count

    def _at(self, index: int) -> torch.Tensor:
        if getattr(self._last, "index", None) != index:
            begin = index * self._block
            self._last.block = self._make(begin, min(begin + self._block, self._rows)).contiguous()
            self._last.index = index
        block: torch.Tensor = self._last.block
        return block


def merged_rows(recipe: MergeRecipe, begin: int, end: int) -> torch.Tensor:
    """Rows `begin` to `end` of the tensor of a recipe, [rows, columns]: as stored, or in bf16 when it has updates."""
    info = recipe.info
    columns = info.shape[-1]
    rows = torch.empty((end - begin, columns), dtype=info.dtype)
    recipe.stored.fetch(recipe.name, rows, begin * columns * info.dtype.itemsize)
    for update in recipe.updates:
        rows = merge(rows, LowRank(update.a, update.b[begin:end], update.scaling))
    return rows


def _copy_bytes(tensor: torch.Tensor, start: int, out: torch.Tensor) -> None:
    target = out.reshape(-1).view(torch.uint8)
    target.copy_(tensor.reshape(-1).view(torch.uint8)[start : start + target.numel()])
