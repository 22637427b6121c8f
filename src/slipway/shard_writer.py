"""Writing safetensors shards: planned first, filled in any order by any thread, published last, resumable after kill -9.

Every name, dtype and shape is known before the first byte, so headers are laid out at once and parts go to fixed offsets
of `<shard>.partial`. A shard whose tensors are all there is flushed and takes its name; the index is written last. With a
`Journal`, every finished tensor is recorded by sha256: a second run checks those bytes and writes only what is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from slipway.artifacts import write_atomic
from slipway.errors import CheckpointError, ResourceError
from slipway.journal import Journal
from slipway.progress import Progress
from slipway.shards import INDEX, LABELS, SINGLE, TensorInfo, TensorSource

_BUG = "report this: the plan and the stage disagree"
_READ = 1 << 23  # bytes a read when digests are checked


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


class _Shard:
    """One file: where its tensors go, and how many bytes are still to come."""

    def __init__(self, file: Path, tensors: Mapping[str, TensorInfo]) -> None:
        self.file, self.partial, self.tensors = file, file.with_name(f"{file.name}.partial"), dict(tensors)
        self.header, self.offsets, self.size = _layout(tensors)
        self.left = set(tensors)
        self.fd = -1

    def start(self, fresh: bool) -> None:
        """Make the partial file at its full size with its header, unless a former run left it or finished the shard."""
        if not fresh and not self.partial.exists() and self.file.exists():
            self.file.rename(self.partial)  # finished before; published again once its digests are checked
        self.fd = os.open(self.partial, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if fresh else 0), 0o644)
        os.truncate(self.fd, self.size)
        _pwrite(self.fd, memoryview(self.header), 0)

    def publish(self) -> None:
        os.fsync(self.fd)
        self.close()
        self.partial.rename(self.file)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class ShardWriter:
    """Writes planned tensors into shards; every method may be called from any thread, one thread a tensor.

    Without a journal a failed run leaves nothing; with one it leaves what the next run goes on from."""

    def __init__(self, out: Path, plan: Mapping[str, TensorInfo], max_bytes: float, journal: Journal | None = None) -> None:
        self._out, self._plan, self._journal = out, dict(plan), journal
        shards = split(plan, max_bytes)
        files = [SINGLE] if len(shards) == 1 else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        self._shards = [_Shard(out / file, tensors) for file, tensors in zip(files, shards, strict=True)]
        self._of = {name: shard for shard in self._shards for name in shard.tensors}
        self._hashes: dict[str, Any] = {}
        self._at = dict.fromkeys(plan, 0)
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

    def has(self, names: Iterable[str]) -> bool:
        """Whether all these tensors are there already."""
        return all(name in self.digests for name in names)

    def drop(self, names: Iterable[str]) -> None:
        """Forget these tensors, if a former run left some of a set that is made together: they will be written again."""
        for name in names:
            if self.digests.pop(name, None):
                self._at[name] = 0
                self._of[name].left.add(name)

    def read(self, name: str) -> torch.Tensor:
        """A finished tensor, from the file."""
        info, shard = self._plan[name], self._of[name]
        out = torch.empty(info.shape, dtype=info.dtype)
        file = shard.partial if shard.partial.exists() else shard.file
        with file.open("rb") as f:
            f.seek(shard.offsets[name])
            f.readinto(bytes_of(out))
        return out

    def _take_back(self, digests: Mapping[str, str]) -> None:
        """Keep the recorded tensors whose bytes are what was recorded. Shards stay open until `close`: some may be dropped."""
        for name, digest in digests.items():
            if name in self._plan and self._digest(name) == digest:
                self.digests[name] = digest
                self._of[name].left.discard(name)

    def _digest(self, name: str) -> str:
        shard, at, left = self._of[name], self._of[name].offsets[name], self._plan[name].nbytes
        found = hashlib.sha256()
        while left:
            data = os.pread(shard.fd, min(left, _READ), at)
            if not data:
                break
            found.update(data)
            at, left = at + len(data), left - len(data)
        return found.hexdigest()

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Put one planned tensor in its place. A name, dtype or shape outside the plan is a CheckpointError."""
        got, want = TensorInfo(tensor.dtype, tuple(tensor.shape)), self._plan.get(name)
        if got != want or self._at[name]:
            raise CheckpointError(f"tensor {name} to write", got, f"{want}, once", _BUG)
        self.append(name, bytes_of(tensor))

    def append(self, name: str, data: memoryview) -> None:
        """The next bytes of a planned tensor, in order; the last of them finish it."""
        shard, at, size = self._of[name], self._at[name], self._plan[name].nbytes
        if name in self.digests or at + len(data) > size:
            raise CheckpointError(f"tensor {name} to write", f"{at} + {len(data)} bytes", f"{size}, once", _BUG)
        self._hashes.setdefault(name, hashlib.sha256()).update(data)
        _pwrite(shard.fd, data, shard.offsets[name] + at)
        self._at[name] += len(data)
        if self._at[name] == size:
            self._finish(name, shard)

    def _finish(self, name: str, shard: _Shard) -> None:
        digest = self._hashes.pop(name).hexdigest()
        with self._lock:
            self.digests[name] = digest
            if self._journal:
                self._journal.record(name, digest)
            shard.left.remove(name)
            whole = not shard.left
        if whole:
            shard.publish()

    def close(self) -> None:
        """Write the index. Raises CheckpointError while planned tensors are missing."""
        missing = [name for name in self._plan if name not in self.digests]
        if missing:
            raise CheckpointError("checkpoint to write", f"{len(missing)} tensors missing, first {min(missing)}", "every tensor", _BUG)
        for shard in self._shards:
            if shard.fd >= 0:  # a former run finished it
                shard.publish()
        if len(self._shards) > 1:
            index = {
                "metadata": {"total_size": self.total},
                "weight_map": {name: shard.file.name for shard in self._shards for name in shard.tensors},
            }
            write_atomic(self._out / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
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


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes on the CPU, without a copy where it is contiguous there."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def write_shards(source: TensorSource, out: Path, max_bytes: float, progress: Progress) -> None:
    """Write every tensor of `source`, one in memory at a time, into safetensors shards of at most `max_bytes` in `out`."""
    plan = {name: source.info(name) for name in source.names()}
    total, done = sum(info.nbytes for info in plan.values()), 0
    with ShardWriter(out, plan, max_bytes) as writer:
        for name, info in plan.items():
            writer.write(name, source.read(name))
            done += info.nbytes
            progress.update("write", done, total, "bytes")
