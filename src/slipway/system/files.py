"""Files written whole or not at all, flushed, digested, and a full disk said by name: what the agent needs of it too
stands in `agent/files.py` and is handed on here; the rest of it is Linux's and the orchestrator's own."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from slipway.agent.files import (
    as_resource_error,
    canonical,
    disk_full_is_named,
    fsync_directory,
    fsync_tree,
    remove,
    sha256_bytes,
    sha256_file,
    write_atomic,
)

__all__ = [
    "as_resource_error",
    "canonical",
    "disk_full_is_named",
    "fsync_directory",
    "fsync_tree",
    "remove",
    "remove_half_written",
    "sha256_bytes",
    "sha256_file",
    "start_write_back",
    "write_atomic",
]


def remove_half_written(directory: Path) -> None:
    """Remove what calls of `write_atomic` left in `directory` that were killed."""
    for file in directory.glob(".*"):
        if re.fullmatch(r"\..+\.\d+", file.name):
            file.unlink()


_WRITE_BACK = 2  # SYNC_FILE_RANGE_WRITE of fcntl.h


def start_write_back(fd: int, offset: int, nbytes: int) -> None:
    """Have the kernel begin to write these bytes of a file to the disk, without waiting for it: a later fsync then
    finds most of its work done. Says nothing where system or file have no such thing (other than Linux, pipes)."""
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin:
        begin(ctypes.c_int(fd), ctypes.c_int64(offset), ctypes.c_int64(nbytes), ctypes.c_uint(_WRITE_BACK))
