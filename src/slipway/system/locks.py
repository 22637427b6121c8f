"""File locks between processes: one at a time, a bounded wait, and the holder named to whoever waited in vain.

The kernel's flock: it belongs to an open file and ends with it, so a killed process leaves no lock behind, only its
file.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

import psutil

from slipway.errors import ResourceError
from slipway.system.files import disk_full_is_named
from slipway.system.redact import mask

POLL_S = 0.1
FOREVER = float("inf")


@contextmanager
def locked(path: Path, wait_s: float, action: str, *, of: str = "") -> Iterator[None]:
    """Hold the lock file `path` for the time of the block.

    `wait_s`: seconds to wait for another holder, `FOREVER` for as long as it takes. `action`: what the block does, told
    to others that wait. `of`: what is locked, for the error; default: the path. Makes the folder of `path`.
    Raises ResourceError naming the holder when `wait_s` is over, or when the file cannot be written.
    """
    try:
        with disk_full_is_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _take(path, wait_s, of or f"lock {path}")
    except OSError as err:
        raise ResourceError(
            f"lock {path}",
            err.strerror,
            "a folder that this user may write and that knows file locks",
            "mend its permissions, or choose another folder",
        ) from err
    with file:
        file.truncate(0)
        file.write(f"{action} by pid {os.getpid()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def shared(path: Path, wait_s: float, *, of: str = "") -> Iterator[None]:
    """Hold the lock file `path` beside others that hold it shared; nobody is in a block of `locked` on it meanwhile.

    Arguments and errors as of `locked`. The file stays: `locked` may take it when all have left.
    """
    deadline = time.monotonic() + wait_s
    with disk_full_is_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    raise ResourceError(
                        of or f"lock {path}",
                        f"busy: {file.read().strip() or holder(path)}",
                        f"to be free within {wait_s:.0f} s",
                        "let that end, then run again",
                    ) from None
                time.sleep(POLL_S)
        yield


def lock_open_file(file: IO[str] | IO[bytes] | FileIO) -> bool:
    """Lock a file that is open already, until it is closed. False when another open file holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether somebody, this process included, holds the lock on `path` now; False when there is no such file."""
    try:
        with path.open("rb") as file:
            return not lock_open_file(file)
    except FileNotFoundError:
        return False


def holder(path: Path) -> str:
    """Who holds the lock on `path`: what it wrote there, else pid and command line as the kernel knows them."""
    inode = path.stat().st_ino
    for line in _lines(Path("/proc/locks")):
        fields = line.split()
        if fields[1:2] == ["FLOCK"] and fields[5].rpartition(":")[2] == str(inode) and _has_open(int(fields[4]), path):
            return f"pid {fields[4]} ({_command_line(int(fields[4]))})"
    return "another process"


def _take(path: Path, wait_s: float, of: str) -> IO[str]:
    """The lock file, open and locked."""
    deadline = time.monotonic() + wait_s
    while True:
        file = path.open("a+", encoding="utf-8")
        if lock_open_file(file):
            # A clean-up may have removed the file while we waited for it: then others lock a new one.
            if _is_at(file, path):
                return file
            file.close()
            continue
        file.seek(0)
        action = file.read().strip()
        file.close()
        if time.monotonic() >= deadline:
            raise ResourceError(
                of,
                f"busy: {action or holder(path)}",
                f"to be free within {wait_s:.0f} s",
                "let that end, then run again",
            )
        time.sleep(POLL_S)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _has_open(pid: int, path: Path) -> bool:
    """Whether this process has the file open: inode numbers repeat on other file systems."""
    try:
        return any(file.path == str(path.resolve()) for file in psutil.Process(pid).open_files())
    except (psutil.Error, ValueError):
        return False


def _command_line(pid: int) -> str:
    try:
        return mask(" ".join(psutil.Process(pid).cmdline()))[:200]
    except psutil.Error:
        return "ended meanwhile"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
