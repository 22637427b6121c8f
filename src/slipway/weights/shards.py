"""Safetensors checkpoints as streams of named tensors.

Headers are read and checked when a checkpoint is opened (`shard_header`); a tensor's bytes are read when asked
for, into memory of its own (no mmap, so that resident memory is what is held).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from slipway.errors import CheckpointError
from slipway.weights.checkpoint_files import weights_file
from slipway.weights.shard_header import DTYPES, FETCH_AGAIN, open_shard, read_header, read_index

LABELS = {dtype: label for label, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.numel * self.dtype.itemsize


class StoredTensors(Protocol):
    """Tensors as they are stored, read in bands: a checkpoint's, an adapter's, or computed when they are read."""

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor, without reading it. Raises CheckpointError when it is absent."""

    def read(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU. Raises CheckpointError when it is absent or not finite."""

    def fetch(self, name: str, out: torch.Tensor, start: int) -> None:
        """Fill `out` (contiguous, on the CPU) with the bytes from byte `start` of the tensor, unchecked for NaN;
        thread-safe."""


class TensorSource(Protocol):
    """Named tensors whose shapes are known without reading them."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""

    def names(self) -> list[str]:
        """Tensor names in their natural order."""

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor, without reading it. Raises CheckpointError when it is absent."""

    def read(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU. Raises CheckpointError when it is absent or not finite."""


@dataclass(frozen=True)
class LowRank:
    """One product to add to a weight [O, I]: `scaling * (b @ a)`, b fp32 [O, r], a fp32 [r, I], on one device."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float


@dataclass(frozen=True)
class MergeRecipe:
    """How a tensor comes to be: stored bytes, then products added, rounded to bf16 after each."""

    stored: StoredTensors
    name: str
    updates: tuple[LowRank, ...]

    @property
    def info(self) -> TensorInfo:
        """As stored."""
        return self.stored.info(self.name)


class WeightSource(TensorSource, Protocol):
    """A TensorSource that also tells where its bytes are, for those who read in bands and merge on a device of their
    own."""

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: stored bytes and products to add."""

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk of a tensor that is read as it lies there; None: something is merged into it."""


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    info: TensorInfo


class Shards:
    """A directory of safetensors: the file or the index that transformers reads (`checkpoint_files`)."""

    def __init__(self, places: Mapping[str, _Place], metadata: Mapping[str, str]) -> None:
        self._places, self._metadata = dict(places), dict(metadata)

    @classmethod
    def open(cls, directory: Path) -> Shards:
        """Read and check every header. Tensors that lie in an indexed file count, also those that the index leaves
        out. Raises CheckpointError naming file and tensor."""
        file = weights_file(directory)
        if file.suffix == ".safetensors":
            return cls.open_file(file)
        weight_map = read_index(file)
        files = {shard: _read_places(directory / shard) for shard in sorted(set(weight_map.values()))}
        for name, shard in weight_map.items():
            if name not in files[shard][0]:
                raise CheckpointError(
                    f"tensor {name}", f"not in {directory / shard}", f"to be there: {file.name} says so", FETCH_AGAIN
                )
        places: dict[str, _Place] = {}
        for shard, (stored, _) in files.items():
            if twice := sorted(places.keys() & stored.keys()):
                raise CheckpointError(
                    f"tensor {twice[0]}", f"in {places[twice[0]].file.name} and in {shard}", "in one file", FETCH_AGAIN
                )
            places |= stored
        return cls(places, next(iter(files.values()))[1])

    @classmethod
    def open_file(cls, file: Path) -> Shards:
        """One safetensors file. Raises CheckpointError naming file and tensor."""
        return cls(*_read_places(file))

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of the files' headers."""
        return self._metadata

    def fingerprint(self) -> str:
        """sha256 over every file's name, size and time of change and every header: tells a changed checkpoint without
        reading it."""
        files = sorted({place.file for place in self._places.values()})
        doc = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        doc += [[n, str(p.info.dtype), p.info.shape, p.offset] for n, p in sorted(self._places.items())]
        return hashlib.sha256(json.dumps(doc).encode()).hexdigest()

    def names(self) -> list[str]:
        """Tensor names, numbers in their natural order: layer 2 before layer 10."""
        return sorted(self._places, key=natural)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor, without reading it. Raises CheckpointError when it is absent."""
        return self._place(name).info

    def read(self, name: str) -> torch.Tensor:
        """The tensor, on the CPU. Raises CheckpointError when it is absent, cut short, or holds NaN or Inf."""
        place = self._place(name)
        tensor = torch.empty(place.info.shape, dtype=place.info.dtype)
        self.fetch(name, tensor, 0)
        require_finite(f"tensor {name} in {place.file}", tensor)
        return tensor

    def fetch(self, name: str, out: torch.Tensor, start: int) -> None:
        """Fill `out` (contiguous, on the CPU) with the stored bytes from byte `start` of the tensor, unchecked for NaN;
        thread-safe. Raises CheckpointError when the file is cut short."""
        place = self._place(name)
        remaining, at = memoryview(out.reshape(-1).view(torch.uint8).numpy().data), place.offset + start
        with open_shard(place.file) as f:
            while remaining:
                count = os.preadv(f.fileno(), [remaining], at)
                if count == 0:
                    raise CheckpointError(
                        f"tensor {name} in {place.file}",
                        f"ends {len(remaining)} bytes early",
                        "a whole tensor",
                        FETCH_AGAIN,
                    )
                remaining, at = remaining[count:], at + count

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: stored bytes and products to add."""
        return MergeRecipe(self, name, ())

    def as_stored(self, name: str) -> TensorInfo | None:
        """dtype and shape on disk."""
        return self.info(name)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise CheckpointError(
                f"tensor {name}", "not in the checkpoint", "a tensor of that name", "check that model and adapter fit"
            )
        return self._places[name]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def require_finite(thing: str, tensor: torch.Tensor) -> None:
    """Raise CheckpointError when a floating tensor holds NaN or Inf."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    low, high = torch.aminmax(tensor.float() if tensor.dtype.itemsize == 1 else tensor)  # both propagate NaN
    if not (torch.isfinite(low) and torch.isfinite(high)):
        bad = int((~torch.isfinite(tensor.float())).sum())
        raise CheckpointError(
            thing, f"{bad} of {tensor.numel()} values are NaN or Inf", "finite values", "use an undamaged file"
        )


def require_elements(source: TensorSource) -> None:
    """Raise CheckpointError for a weight without elements: what DeepSpeed ZeRO-3 and FSDP leave of a parameter that was
    not gathered before it was saved."""
    for name in source.names():
        if name.endswith(".weight") and not (info := source.info(name)).numel:
            step = "gather the parameters before saving, and save the model again"
            raise CheckpointError(f"tensor {name}", f"shape {list(info.shape)}, no elements", "elements", step)


def _read_places(file: Path) -> tuple[dict[str, _Place], dict[str, str]]:
    entries, metadata = read_header(file)
    places = {name: _Place(file, entry.offset, TensorInfo(entry.dtype, entry.shape)) for name, entry in entries.items()}
    return places, metadata
