"""Writing safetensors shards: planned first, filled in any order by any thread, published last, resumable after kill
-9.

Every name, dtype and shape is known before the first byte, so headers are laid out at once and parts go to fixed
offsets of `<shard>.partial`. A shard whose tensors are all there is flushed and takes its name; the index is written
last. With a `Journal`, every finished tensor is recorded by sha256: a second run checks those bytes and writes only
what is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from slipway.errors import CheckpointError, ResourceError
from slipway.system.files import fsync_directory, start_write_back, write_atomic
from slipway.system.progress import Progress
from slipway.weights.checkpoint_files import INDEX, SINGLE
from slipway.weights.journal import Journal
from slipway.weights.shard_layout import file_layout, plan_shards
from slipway.weights.shards import TensorInfo, TensorSource

_BUG = "report this: the plan and the stage disagree"
_READ = 1 << 23  # bytes a read when digests are checked
_WORTH_STARTING = 1 << 20  # bytes of a part that the disk begins to write at once; smaller ones wait for the flush


def _require_space(out: Path, size: int) -> None:
    """A disk without room is known before hours of work, not after."""
    free = shutil.disk_usage(out).free
    if size > free:
        raise ResourceError(
            f"disk of {out}", f"{free / 1e9:.2f} GB free", f"{size / 1e9:.2f} GB for the checkpoint",
            "free space or set store.root to another disk, then run again",
        )  # fmt: skip


class _Shard:
    """One file: where its tensors go, and how many bytes are still to come."""

    def __init__(self, file: Path, tensors: Mapping[str, TensorInfo]) -> None:
        self.file, self.partial, self.tensors = file, file.with_name(f"{file.name}.partial"), dict(tensors)
        self.header, self.offsets, self.size = file_layout(tensors)
        self.remaining: set[str] = set()
        self.fd = -1

    def start(self, fresh: bool) -> None:
        """Make the partial file at its full size with its header, unless a former run left it or finished the shard."""
        if not fresh and not self.partial.exists() and self.file.exists():
            self.file.rename(self.partial)  # finished before; published again once its digests are checked
        self.fd = os.open(self.partial, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if fresh else 0), 0o644)
        os.truncate(self.fd, self.size)
        _pwrite(self.fd, memoryview(self.header), 0)

    def open(self) -> FileIO:
        """For reading, whether published or not, or just being so."""
        try:
            return FileIO(self.partial)
        except FileNotFoundError:
            return FileIO(self.file)

    def publish(self) -> None:
        os.fsync(self.fd)
        self.close()
        self.partial.rename(self.file)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True)
class _Part:
    """A run of bytes that one thread writes: a whole tensor, or a piece of a large one."""

    tensor: str
    offset: int  # in the tensor
    nbytes: int


def part_key(name: str, index: int, count: int) -> str:
    """What a tensor's part is called in `append`, `has`, `drop` and the journal."""
    return name if count == 1 else f"{name}#{index}"


class ShardWriter:
    """Writes planned tensors into shards; every method may be called from any thread, one thread a part.

    A tensor is one part unless `parts` says in how many bytes each it is cut. Without a journal a failed run leaves
    nothing; with one it leaves what the next run goes on from."""

    def __init__(
        self,
        out: Path,
        plan: Mapping[str, TensorInfo],
        max_bytes: float,
        journal: Journal | None = None,
        parts: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._out, self._plan, self._journal = out, dict(plan), journal
        self._parts = {
            key: part for name, info in plan.items() for key, part in _cut(name, (parts or {}).get(name, [info.nbytes]))
        }
        shards = plan_shards(plan, max_bytes)
        files = (
            [SINGLE]
            if len(shards) == 1
            else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        )
        self._shards = [_Shard(out / file, tensors) for file, tensors in zip(files, shards, strict=True)]
        self._of = {name: shard for shard in self._shards for name in shard.tensors}
        for key, part in self._parts.items():
            self._of[part.tensor].remaining.add(key)
        self._hashes: dict[str, Any] = {}
        self._at = dict.fromkeys(self._parts, 0)
        self._lock = threading.Lock()
        self.digests: dict[str, str] = {}
        (out / INDEX).unlink(missing_ok=True)  # it says that everything is there
        _require_space(out, self.total - sum(f.stat().st_blocks * 512 for f in out.glob("*.safetensors*")))
        for shard in self._shards:
            shard.start(fresh=not (journal and journal.digests))
        if journal:
            self._take_back(journal.digests)

    @property
    def total(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self._plan.values())

    def has(self, keys: Iterable[str]) -> bool:
        """Whether all these parts are there already."""
        return all(key in self.digests for key in keys)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these parts, if a former run left some of a set that is made together: they will be written again."""
        for key in keys:
            if self.digests.pop(key, None):
                self._at[key] = 0
                self._of[self._parts[key].tensor].remaining.add(key)

    def read(self, name: str) -> torch.Tensor:
        """A finished tensor, from the file."""
        info, shard = self._plan[name], self._of[name]
        out = torch.empty(info.shape, dtype=info.dtype)
        with shard.open() as f:
            f.seek(shard.offsets[name])
            f.readinto(bytes_of(out))
        return out

    def _take_back(self, digests: Mapping[str, str]) -> None:
        """Keep the recorded parts whose bytes are what was recorded. Shards stay open until `close`: some may be
        dropped."""
        for key, digest in digests.items():
            if key in self._parts and self._digest(self._parts[key]) == digest:
                self.digests[key] = digest
                self._of[self._parts[key].tensor].remaining.discard(key)

    def _digest(self, part: _Part) -> str:
        shard, remaining = self._of[part.tensor], part.nbytes
        at, sha = shard.offsets[part.tensor] + part.offset, hashlib.sha256()
        while remaining:
            data = os.pread(shard.fd, min(remaining, _READ), at)
            if not data:
                break
            sha.update(data)
            at, remaining = at + len(data), remaining - len(data)
        return sha.hexdigest()

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Put one planned tensor in its place. A name, dtype or shape outside the plan is a CheckpointError."""
        actual, planned = TensorInfo(tensor.dtype, tuple(tensor.shape)), self._plan.get(name)
        if actual != planned or self._at.get(name):
            raise CheckpointError(f"tensor {name} to write", actual, f"{planned}, once", _BUG)
        self.append(name, bytes_of(tensor))

    def append(self, key: str, data: memoryview) -> None:
        """The next bytes of a part, in order; the last of them finish it."""
        part, at = self._parts[key], self._at[key]
        if key in self.digests or at + len(data) > part.nbytes:
            raise CheckpointError(f"tensor {key} to write", f"{at} + {len(data)} bytes", f"{part.nbytes}, once", _BUG)
        shard = self._of[part.tensor]
        self._hashes.setdefault(key, hashlib.sha256()).update(data)
        _pwrite(shard.fd, data, shard.offsets[part.tensor] + part.offset + at)
        self._at[key] += len(data)
        if self._at[key] == part.nbytes:
            if part.nbytes >= _WORTH_STARTING:
                start_write_back(shard.fd, shard.offsets[part.tensor] + part.offset, part.nbytes)
            self._finish(key, shard)

    def _finish(self, key: str, shard: _Shard) -> None:
        digest = self._hashes.pop(key).hexdigest()
        with self._lock:
            self.digests[key] = digest
            if self._journal:
                self._journal.record(key, digest)
            shard.remaining.remove(key)
            whole = not shard.remaining
        if whole:
            shard.publish()

    def close(self) -> None:
        """Write the index. Raises CheckpointError while planned tensors are missing."""
        missing = [key for key in self._parts if key not in self.digests]
        if missing:
            raise CheckpointError(
                "checkpoint to write", f"{len(missing)} tensors missing, first {min(missing)}", "every tensor", _BUG
            )
        for shard in self._shards:
            if shard.fd >= 0:  # a former run finished it
                shard.publish()
        if len(self._shards) > 1:
            index = {
                "metadata": {"total_size": self.total},
                "weight_map": {name: shard.file.name for shard in self._shards for name in shard.tensors},
            }
            write_atomic(self._out / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
        fsync_directory(self._out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        closed = False
        try:
            if kind is None:
                self.close()
                closed = True
        finally:
            for shard in self._shards:
                shard.close()
                if not closed and not self._journal:
                    shard.partial.unlink(missing_ok=True)
                    shard.file.unlink(missing_ok=True)


def _cut(name: str, sizes: Sequence[int]) -> Iterator[tuple[str, _Part]]:
    at = 0
    for i, nbytes in enumerate(sizes):
        yield part_key(name, i, len(sizes)), _Part(name, at, nbytes)
        at += nbytes


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes on the CPU, without a copy where it is contiguous there."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def write_shards(source: TensorSource, out: Path, max_bytes: float, progress: Progress) -> None:
    """Write every tensor of `source`, one in memory at a time, into safetensors shards of at most `max_bytes` in
    `out`."""
    plan = {name: source.info(name) for name in source.names()}
    total, done = sum(info.nbytes for info in plan.values()), 0
    with ShardWriter(out, plan, max_bytes) as writer:
        for name, info in plan.items():
            writer.write(name, source.read(name))
            done += info.nbytes
            progress.update("write", done, total, "bytes")
