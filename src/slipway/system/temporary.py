"""Temporary folders that a killed process does not leave for good: the next process that makes one removes them.

    <temporary folder>/<prefix>-XXXXXXXX/.lock    held by who made it, for as long as it lives
    <temporary folder>/<prefix>-XXXXXXXX/files/   what is given out

A folder whose lock nobody holds belongs to a process that is gone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from slipway.system.locks import lock_open_file

_LOCK, _FILES = ".lock", "files"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """An empty folder for the time of the block. Folders of the same prefix that killed processes of this user left are
    removed first. Raises OSError where the system's temporary folder cannot be written."""
    remove_abandoned(prefix)
    while (made := _make(prefix)) is None:
        pass  # another process, clearing up, was between our making the folder and our lock
    folder, lock = made
    with lock:
        try:
            yield folder / _FILES
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(prefix: str) -> int:
    """Remove the folders of `prefix` that are this user's and whose maker has ended; returns how many."""
    folders = [path for path in Path(tempfile.gettempdir()).glob(f"{prefix}-*") if _is_ours(path)]
    return sum(_removed(folder) for folder in folders)


def _make(prefix: str) -> tuple[Path, IO[str]] | None:
    """A folder and its held lock; None when a process that clears up took it for one without a maker."""
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    try:
        lock = (folder / _LOCK).open("w", encoding="utf-8")
    except FileNotFoundError:
        return None
    with suppress(FileNotFoundError):
        if lock_open_file(lock) and os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
            (folder / _FILES).mkdir()
            return folder, lock
    lock.close()
    return None


def _is_ours(folder: Path) -> bool:
    with suppress(FileNotFoundError):
        return folder.lstat().st_uid == os.geteuid() and folder.is_dir() and not folder.is_symlink()
    return False


def _removed(folder: Path) -> bool:
    """Whether the folder had no maker any more; an empty one was left between its making and its lock."""
    with suppress(OSError):
        folder.rmdir()
        return True
    with suppress(OSError), (folder / _LOCK).open("r", encoding="utf-8") as lock:
        if lock_open_file(lock):
            shutil.rmtree(folder, ignore_errors=True)
            return True
    return False
