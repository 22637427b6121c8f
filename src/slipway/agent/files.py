"""Files written whole or not at all, flushed, digested; and a full disk said by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from slipway.errors import ResourceError


def canonical(doc: object) -> bytes:
    """JSON with one spelling per value, for digests."""
    return json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_bytes(data: bytes) -> str:
    """sha256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes as 64 hex digits, read piece by piece."""
    digest, piece = hashlib.sha256(), bytearray(1 << 18)  # hashlib.file_digest came with Python 3.11
    with path.open("rb", buffering=0) as f:
        while size := f.readinto(piece):
            digest.update(memoryview(piece)[:size])
    return digest.hexdigest()


def fsync_tree(root: Path) -> None:
    """Flush every file and directory under `root` to the disk."""
    for path in [*root.rglob("*"), root]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` in one step: readers see the old text or the new, never half."""
    tmp = path.with_name(f".{path.name}.{threading.get_native_id()}")  # two threads of a process write one each
    with tmp.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    tmp.replace(path)


def remove(path: Path) -> None:
    """Remove what has this name: a file, a symlink (not what it names), or a folder with all in it; nothing when
    absent.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_resource_error(err: OSError) -> ResourceError:
    """What the system refused, on which file, for a person."""
    if err.errno in (ENOSPC, EDQUOT):
        return ResourceError(
            "disk", f"full while writing {err.filename or 'a file'}", "room", "free space, then run again"
        )
    return ResourceError(
        f"file {err.filename}",
        err.strerror or str(err),
        "a path that this user may read and write",
        "mend its permissions or its file system, or choose another place (store.root, deploy.root, --out)",
    )


@contextmanager
def disk_full_is_named(where: Path) -> Iterator[None]:
    """Turn ENOSPC into an error that says where and how much is left."""
    try:
        yield
    except OSError as err:
        if err.errno not in (ENOSPC, EDQUOT):
            raise
        parent = where
        while not parent.exists():
            parent = parent.parent
        free = shutil.disk_usage(parent).free
        raise ResourceError(
            "disk",
            f"full while writing {err.filename or where}, {free / 1e9:.2f} GB free",
            "room for the artifact",
            "free space or set store.root to another disk, then run again: finished stages are kept",
        ) from err


def fsync_directory(path: Path) -> None:
    """Flush a directory's entries: a rename in it is on the disk when this returns."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
