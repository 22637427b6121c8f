"""Standard output and standard error of a command: pipes nobody reads, full disks, closed descriptors, no terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from errno import EPIPE
from typing import TYPE_CHECKING, TextIO

from slipway.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

# What a shell reports for a program that SIGPIPE ended: 128 + 13.
BROKEN_PIPE = 141
# A table that no terminal cuts: each row on one line, for grep, and for URLs and paths that can be copied.
UNLIMITED = 100_000


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error, as wide as the terminal; without a terminal nothing is wrapped or
    cut.
    """
    from rich.console import Console

    shown = Console(stderr=stderr)
    return shown if shown.is_terminal else Console(stderr=stderr, width=UNLIMITED)


class OutputError(Exception):
    """Standard output took no more."""


def guarded(main: Callable[[], int]) -> int:
    """Run a command; its exit code, whatever becomes of its output.

    A reader that went away (`slipway status | head -1`) ends the command quietly with 141. A standard output that is
    full or closed is one error on standard error and exit code 2: when it is closed, before any work. What standard
    error does not take is dropped: it is not what was asked for.
    """
    try:
        _open_streams()
        code = _exit_code(main)
        sys.stdout.flush()
        return code
    except OutputError as err:
        _discard(1)  # or Python's own last flush fails again, with a text of its own
        cause = err.__cause__
        if isinstance(cause, OSError) and cause.errno == EPIPE:
            return BROKEN_PIPE
        reason = cause.strerror if isinstance(cause, OSError) else err
        sys.stderr.write(f"standard output: {reason}; expected room for the output. Next: redirect it elsewhere\n")
        return ConfigError.exit_code


def _exit_code(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as err:
        if err.code is None or isinstance(err.code, int):
            return err.code or 0
        sys.stderr.write(f"{err.code}\n")
        return 1


def _open_streams() -> None:
    """Every standard descriptor open, so that no file that is opened later becomes one; writes through our own streams.

    Only where the streams are the process's own: a test that captures them keeps its own.
    """
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    for fd in closed:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is `fd`
        os.set_inheritable(fd, True)
    if 0 in closed:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (as long as the process)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.__stderr__, _Diagnostics)
    if 1 in closed:
        sys.stdout = _stream(1, None, _Output)
        raise OutputError("closed")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.__stdout__, _Output)


def _stream(fd: int, like: TextIO | None, raw: type[io.FileIO]) -> TextIO:
    """A text stream on a descriptor, with the encoding of the one it replaces; what that cannot encode is escaped."""
    encoding = like.encoding if like else "utf-8"
    errors = "surrogateescape" if encoding.lower().replace("-", "") == "utf8" else "backslashreplace"
    buffered = io.BufferedWriter(raw(fd, "w", closefd=False))
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=fd == 2 or os.isatty(fd))


class _Output(io.FileIO):
    """Standard output: what it does not take ends the command."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as err:
            raise OutputError from err


class _Diagnostics(io.FileIO):
    """Standard error: what it does not take is lost."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _discard(fd: int) -> None:
    """Send what is still in buffers nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
