"""Vectors that were made before, by sha256 of the text and the embedder: `<cache>/vectors/<embedder>/<shard>.npz`.

A shard holds up to `SHARD` new vectors, [n, dimension] fp32 with their texts' digests [n, 32], and is written whole: a
killed run loses one at most, and the next one goes on. A shard that cannot be read is removed and its vectors made
anew.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipway.system.files import disk_full_is_named, sha256_bytes

F32 = NDArray[np.float32]
SHARD = 64


class VectorCache:
    """The vectors of one embedder and one kind of text (`passage`, `query`)."""

    def __init__(self, cache: Path, embedder: str, kind: str) -> None:
        self._folder = cache.expanduser() / "vectors" / f"{embedder[:16]}-{kind}"
        self._vectors: dict[bytes, F32] = {}
        self.made = 0  # vectors that had to be computed
        for shard in sorted(self._folder.glob("*.npz")):
            self._read(shard)

    def vectors(
        self, texts: Sequence[str], embed: Callable[[Sequence[str]], F32], done: Callable[[int, int], None]
    ) -> F32:
        """Vectors of these texts, [n, dimension]; those that are not known are made by `embed`, shard by shard, and
        kept. `done` is told how many of how many are there."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        known, pending = len(set(keys)) - len(missing), list(missing.items())
        for at in range(0, len(pending), SHARD):
            part = pending[at : at + SHARD]
            made = embed([text for _, text in part])
            self._keep([key for key, _ in part], made)
            self.made += len(part)
            done(known + at + len(part), len(set(keys)))
        return np.stack([self._vectors[key] for key in keys])

    def _keep(self, keys: Sequence[bytes], vectors: F32) -> None:
        digests = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 32)
        buffer = io.BytesIO()
        np.savez(buffer, digests=digests, vectors=vectors.astype(np.float32))
        name = sha256_bytes(b"".join(keys))[:32]
        with disk_full_is_named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            part = self._folder / f".{name}.{os.getpid()}"
            part.write_bytes(buffer.getvalue())
            part.replace(self._folder / f"{name}.npz")
        self._vectors.update(zip(keys, vectors.astype(np.float32), strict=True))

    def _read(self, shard: Path) -> None:
        try:
            with shard.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                digests, vectors = file["digests"], file["vectors"]
            rows = zip((row.tobytes() for row in digests), vectors, strict=True)
            self._vectors.update(rows)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            shard.unlink(missing_ok=True)
