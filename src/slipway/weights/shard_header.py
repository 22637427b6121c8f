"""Headers of safetensors files and the index over them, checked before a byte of weights is read.

A file is `u64 n | n bytes of JSON header | data`; the header maps a name to dtype, shape and byte range in the data.
Every byte of the data must belong to one tensor: no overlap, no gap, nothing behind the last. Whatever else a damaged
or hostile file says is one CheckpointError that names file and tensor.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from slipway.errors import CheckpointError, StateError
from slipway.system.json_files import read_json

_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library
FETCH_AGAIN = "fetch or copy the file again and compare its sha256"

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


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in its file: `offset` counts from the file's first byte."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_shard(file: Path) -> FileIO:
    """Open for reading, unbuffered. Raises CheckpointError when the file is missing or cannot be read."""
    try:
        return FileIO(file)
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise CheckpointError(f"shard {file}", _reason(file, err), "a safetensors file", FETCH_AGAIN) from err


def read_header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries and metadata of one safetensors file. Raises CheckpointError."""
    _require_regular(file)
    with open_shard(file) as f:
        size = os.fstat(f.fileno()).st_size
        try:
            length = int.from_bytes(f.read(8), "little")
            raw = f.read(min(length, size))
        except OSError as err:
            raise CheckpointError(f"shard {file}", err.strerror, "a file that can be read", FETCH_AGAIN) from err
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        value = f"header of {length} bytes in a file of {size}"
        raise CheckpointError(f"shard {file}", value, "a header within the file", FETCH_AGAIN)
    header = _parse(file, raw)
    metadata = header.pop("__metadata__", {})
    entries = {name: _entry(file, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(file, entries, 8 + length, size)
    return entries, {key: value for key, value in metadata.items() if isinstance(value, str)}


def read_index(file: Path) -> dict[str, str]:
    """Tensor -> file name, which is one in the index's own folder. Raises CheckpointError."""
    try:
        weight_map = read_json(file, "index", FETCH_AGAIN).get("weight_map")
    except StateError as err:
        raise CheckpointError(f"index {file}", err.value, "JSON with weight_map", FETCH_AGAIN) from err
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"index {file}", f"weight_map: {weight_map!r}", "tensor -> file", FETCH_AGAIN)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or shard in ("", ".", "..") or "\0" in shard or Path(shard).name != shard:
            value = f"tensor {name} lies in {shard!r}"
            raise CheckpointError(f"index {file}", value, "the name of a file in the same folder", FETCH_AGAIN)
    return weight_map


def _require_regular(file: Path) -> None:
    """A pipe would be waited for, for ever."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as err:
        raise CheckpointError(f"shard {file}", _reason(file, err), "a safetensors file", FETCH_AGAIN) from err
    if not stat.S_ISREG(mode):
        value = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise CheckpointError(f"shard {file}", value, "a safetensors file", FETCH_AGAIN)


def _reason(file: Path, err: OSError | ValueError) -> str:
    if not isinstance(err, FileNotFoundError):
        return (err.strerror if isinstance(err, OSError) else None) or str(err)
    return f"missing: a symlink to {file.readlink()}" if file.is_symlink() else "missing"


def _parse(file: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as err:
        reason = "nested too deep" if isinstance(err, RecursionError) else err
        raise CheckpointError(f"header of shard {file}", reason, "JSON", FETCH_AGAIN) from err
    if not isinstance(header, dict) or not all(isinstance(v, dict) for v in header.values()):
        raise CheckpointError(
            f"header of shard {file}", "not a mapping of tensors", "a safetensors header", FETCH_AGAIN
        )
    return header


def _entry(file: Path, name: str, entry: dict[str, Any], start: int) -> Entry:
    try:
        label, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        place = Entry(DTYPES[label], shape, start + begin)
        # `type`: 64.0 and true are equal to integers, and no sizes
        are_sizes = all(type(n) is int and n >= 0 for n in (begin, end, *shape))
        fits = are_sizes and end - begin == place.nbytes
    except (KeyError, TypeError, ValueError, OverflowError) as err:
        raise _no_entry(file, name, entry) from err
    if not are_sizes:
        raise _no_entry(file, name, entry)
    if not fits:
        expected = f"{place.nbytes} bytes for {label} {list(shape)}"
        raise CheckpointError(f"tensor {name} in {file}", f"bytes {begin} to {end}", expected, FETCH_AGAIN)
    return place


def _no_entry(file: Path, name: str, entry: object) -> CheckpointError:
    return CheckpointError(
        f"tensor {name} in {file}", f"header entry {entry}", "known dtype, shape and offsets", FETCH_AGAIN
    )


def _check_layout(file: Path, entries: Mapping[str, Entry], start: int, size: int) -> None:
    at = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset != at:
            raise CheckpointError(
                f"tensor {name} in {file}", f"starts at byte {entry.offset}", f"byte {at}", FETCH_AGAIN
            )
        at += entry.nbytes
    if at != size:
        raise CheckpointError(f"shard {file}", f"{size} bytes", f"{at} bytes, by its header", FETCH_AGAIN)
