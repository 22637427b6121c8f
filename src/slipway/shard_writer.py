"""Writing safetensors shards, one tensor in memory at a time.

Every name, dtype and shape is known before the first byte: headers are laid out at once, tensors come in any order, and
the files get their names and the index is written last, when all tensors are there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import torch

from slipway.errors import CheckpointError, ResourceError
from slipway.progress import Progress
from slipway.shards import INDEX, LABELS, SINGLE, TensorInfo, TensorSource

_BUG = "report this: the plan and the stage disagree"


def split(plan: Mapping[str, TensorInfo], max_bytes: float) -> list[dict[str, TensorInfo]]:
    """Cut a plan into shards of at most `max_bytes` in its own order; a tensor larger than that gets a shard of its own."""
    shards: list[dict[str, TensorInfo]] = [{}]
    room = max_bytes
    for name, info in plan.items():
        if shards[-1] and info.nbytes > room:
            shards.append({})
            room = max_bytes
        shards[-1][name] = info
        room -= info.nbytes
    return shards


def _layout(tensors: Mapping[str, TensorInfo]) -> tuple[bytes, dict[str, int], int]:
    """Bytes before the data, each tensor's offset in the file, and the file's size. Widest dtype first keeps tensors aligned."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    begins, at = {}, 0
    for name, info in ordered:
        begins[name] = at
        at += info.nbytes
    entries = {
        name: {"dtype": LABELS[info.dtype], "shape": list(info.shape), "data_offsets": [begins[name], begins[name] + info.nbytes]}
        for name, info in ordered
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    return len(header).to_bytes(8, "little") + header, {name: start + begin for name, begin in begins.items()}, start + at


def _require_space(out: Path, size: int) -> None:
    """A disk without room is known before hours of work, not after."""
    free = shutil.disk_usage(out).free
    if size > free:
        raise ResourceError(
            f"disk of {out}", f"{free / 1e9:.2f} GB free", f"{size / 1e9:.2f} GB for the checkpoint",
            "free space or set store.root to another disk, then run again",
        )  # fmt: skip


class ShardWriter:
    """Writes planned tensors into shards, in any order, one in memory at a time; `close` publishes files, then the index."""

    def __init__(self, out: Path, plan: Mapping[str, TensorInfo], max_bytes: float) -> None:
        self._out, self._plan = out, dict(plan)
        shards = split(plan, max_bytes)
        count = len(shards)
        files = [SINGLE] if count == 1 else [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
        self._shards = dict(zip(files, shards, strict=True))
        self._handles: dict[str, BinaryIO] = {}
        self._spots: dict[str, tuple[str, int]] = {}
        self._left = set(plan)
        _require_space(out, sum(info.nbytes for info in plan.values()))
        for file, tensors in self._shards.items():
            self._start(file, tensors)

    def _start(self, file: str, tensors: Mapping[str, TensorInfo]) -> None:
        """The header now, the tensors where it says they are, later."""
        raw, offsets, size = _layout(tensors)
        self._spots |= {name: (file, offset) for name, offset in offsets.items()}
        handle = self._handles[file] = self._partial(file).open("w+b", buffering=0)
        handle.truncate(size)
        handle.write(raw)

    def _partial(self, file: str) -> Path:
        return self._out / f"{file}.partial"

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Put one planned tensor in its place. A name, dtype or shape outside the plan is a CheckpointError."""
        got, want = TensorInfo(tensor.dtype, tuple(tensor.shape)), self._plan.get(name)
        if got != want or name not in self._left:
            raise CheckpointError(f"tensor {name} to write", got, f"{want}, once", _BUG)
        file, offset = self._spots[name]
        data = memoryview(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
        while data:
            done = os.pwrite(self._handles[file].fileno(), data, offset)
            data, offset = data[done:], offset + done
        self._left.remove(name)

    def close(self) -> None:
        """Publish. Raises CheckpointError while planned tensors are missing."""
        if self._left:
            raise CheckpointError(
                "checkpoint to write", f"{len(self._left)} tensors missing, first {min(self._left)}", "every tensor", _BUG
            )
        for file in self._shards:
            self._handles.pop(file).close()
            self._partial(file).rename(self._out / file)
        if len(self._shards) > 1:
            index = {
                "metadata": {"total_size": sum(info.nbytes for info in self._plan.values())},
                "weight_map": {name: file for name, (file, _) in self._spots.items()},
            }
            (self._out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            for handle in self._handles.values():
                handle.close()
            for file in self._shards:
                self._partial(file).unlink(missing_ok=True)


def write_shards(source: TensorSource, out: Path, max_bytes: float, progress: Progress) -> None:
    """Stream every tensor of `source` into safetensors shards of at most `max_bytes` in `out`."""
    plan = {name: source.info(name) for name in source.names()}
    total, done = sum(info.nbytes for info in plan.values()), 0
    with ShardWriter(out, plan, max_bytes) as writer:
        for name, info in plan.items():
            writer.write(name, source.read(name))
            done += info.nbytes
            progress.update("write", done, total, "bytes")
