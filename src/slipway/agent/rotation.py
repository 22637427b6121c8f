"""Bounds a log that another process appends to for weeks.

    SLIPWAY_LOG=engine.log python rotation.py MAX_BYTES EVERY_S < pipe

The writer opened its log with O_APPEND and keeps it open, so the log is copied to `LOG.1` and then emptied in place, as
logrotate's `copytruncate` does; lines written between copy and cut are lost. Standard input is a pipe whose other end
the writer holds: it ends with the writer, and this process with it. Nothing depends on this process: without it the log
only grows. Runs as a plain script with the standard library alone, because it stays in memory beside every engine.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 10_000_000
EVERY_S = 30.0
WATCH = "watch-log"


def watcher(log: Path, max_bytes: int = MAX_BYTES, every_s: float = EVERY_S) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process that keeps `log` and its one copy below about `max_bytes` bytes each.

    It looks every `every_s` seconds. The path is in the environment: a command line that names a release looks like the
    release's engine.
    """
    here = Path(__file__).resolve()
    program = [str(here)] if here.is_file() else [str(here.parents[2]), WATCH]  # or the zipapp that this module is in
    command = [sys.executable, "-I", "-S", *program, str(max_bytes), str(every_s)]
    return command, {"SLIPWAY_LOG": os.fspath(log.resolve())}


def rotate(log: Path, max_bytes: int) -> bool:
    """Move what `log` holds to `LOG.1` when it is larger than `max_bytes`; True when it was. The file stays."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > max_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
            return True
    return False


def watch(log: Path, max_bytes: int, every_s: float, writer: int) -> None:
    """Rotate `log` until the pipe `writer`, a file descriptor, ends."""
    while not select.select([writer], [], [], every_s)[0]:
        with suppress(OSError):  # a full disk: the next look may find room
            rotate(log, max_bytes)


def main(arguments: list[str]) -> None:
    """What the command of `watcher` runs."""
    watch(Path(os.environ["SLIPWAY_LOG"]), int(arguments[0]), float(arguments[1]), sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1:])
