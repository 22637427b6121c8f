"""Safetensors checkpoints as streams of named tensors.

A file is `u64 n | n bytes of JSON header | data`; the header maps a name to dtype, shape and byte range in the data.
Headers are read and checked when a checkpoint is opened; a tensor's bytes are read when asked for, into memory of its
own (no mmap, so that resident memory is what is held).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import torch

from slipway.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_FETCH_AGAIN = "fetch or copy the file again and compare its sha256"

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
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

    stored: Shards
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


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    info: TensorInfo


class Shards:
    """A directory of safetensors: `model.safetensors.index.json` and its files, or one `model.safetensors`."""

    def __init__(self, places: Mapping[str, _Place], metadata: Mapping[str, str]) -> None:
        self._places, self._metadata = dict(places), dict(metadata)

    @classmethod
    def open(cls, directory: Path) -> Shards:
        """Read and check every header. Raises CheckpointError naming file and tensor."""
        if not (directory / INDEX).exists():
            return cls.open_file(directory / SINGLE)
        weight_map = _read_index(directory / INDEX)
        files = {file: read_header(directory / file) for file in sorted(set(weight_map.values()))}
        for name, file in weight_map.items():
            if name not in files[file][0]:
                raise CheckpointError(
                    f"tensor {name}", f"not in {directory / file}", f"to be there: {INDEX} says so", _FETCH_AGAIN
                )
        metadata = next(iter(files.values()))[1]
        return cls({name: files[file][0][name] for name, file in weight_map.items()}, metadata)

    @classmethod
    def open_file(cls, file: Path) -> Shards:
        """One safetensors file. Raises CheckpointError naming file and tensor."""
        return cls(*read_header(file))

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
                        _FETCH_AGAIN,
                    )
                remaining, at = remaining[count:], at + count

    def recipe(self, name: str) -> MergeRecipe:
        """How the tensor comes to be: stored bytes and products to add."""
        return MergeRecipe(self, name, ())

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise CheckpointError(
                f"tensor {name}", "not in the checkpoint", "a tensor of that name", "check that model and adapter fit"
            )
        return self._places[name]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def open_shard(file: Path) -> FileIO:
    """Open for reading, unbuffered. Raises CheckpointError when the file is missing."""
    try:
        return FileIO(file)
    except FileNotFoundError:
        raise CheckpointError(f"shard {file}", "missing", "a safetensors file", _FETCH_AGAIN) from None


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


def read_header(file: Path) -> tuple[dict[str, _Place], dict[str, str]]:
    """Places and metadata of one safetensors file; every byte of it must be accounted for. Raises CheckpointError."""
    with open_shard(file) as f:
        size = os.fstat(f.fileno()).st_size
        length = int.from_bytes(f.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise CheckpointError(
                f"shard {file}",
                f"header of {length} bytes in a file of {size}",
                "a header within the file",
                _FETCH_AGAIN,
            )
        header = _parse(file, f.read(length))
    metadata = header.pop("__metadata__", {})
    places = {name: _place(file, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(file, places, 8 + length, size)
    return places, metadata


def _parse(file: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except ValueError as err:
        raise CheckpointError(f"header of shard {file}", err, "JSON", _FETCH_AGAIN) from err
    if not isinstance(header, dict) or not all(isinstance(v, dict) for v in header.values()):
        raise CheckpointError(
            f"header of shard {file}", "not a mapping of tensors", "a safetensors header", _FETCH_AGAIN
        )
    return header


def _place(file: Path, name: str, entry: dict[str, Any], start: int) -> _Place:
    try:
        label, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        info = TensorInfo(DTYPES[label], shape)
        fits = end - begin == info.nbytes and min((0, begin, *shape)) >= 0
    except (KeyError, TypeError, ValueError) as err:
        raise CheckpointError(
            f"tensor {name} in {file}", f"header entry {entry}", "known dtype, shape and offsets", _FETCH_AGAIN
        ) from err
    if not fits:
        expected = f"{info.nbytes} bytes for {label} {list(shape)}"
        raise CheckpointError(f"tensor {name} in {file}", f"bytes {begin} to {end}", expected, _FETCH_AGAIN)
    return _Place(file, start + begin, info)


def _check_layout(file: Path, places: Mapping[str, _Place], start: int, size: int) -> None:
    at = start
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].info.nbytes)):
        if place.offset != at:
            raise CheckpointError(
                f"tensor {name} in {file}", f"starts at byte {place.offset}", f"byte {at}", _FETCH_AGAIN
            )
        at += place.info.nbytes
    if at != size:
        raise CheckpointError(f"shard {file}", f"{size} bytes", f"{at} bytes, by its header", _FETCH_AGAIN)


def _read_index(file: Path) -> dict[str, str]:
    try:
        weight_map: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        well_formed = all(Path(shard).name == shard for shard in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise CheckpointError(f"index {file}", f"unreadable: {err}", "JSON with weight_map", _FETCH_AGAIN) from err
    if not weight_map or not well_formed:
        value = "a weight_map that is empty or leaves the directory"
        raise CheckpointError(f"index {file}", value, "tensor -> file", _FETCH_AGAIN)
    return weight_map
