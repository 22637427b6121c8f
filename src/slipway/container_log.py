"""A container's output, copied to a file byte for byte, without loss or repetition, however often the copy is interrupted.

The engine keeps the whole output. What is in the file after `start` is the part copied already, so whoever goes on, in this process
or in a new one, reads from the beginning and leaves out as many bytes. One process copies at a time: it holds a lock on the file,
and a copy cut in the middle of a chunk goes on in the middle of it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

from docker.errors import APIError

from slipway.artifacts import disk_full_is_named
from slipway.docker_engine import LOST, PULL_S, Engine, UnreachableError, close

JOIN_S = 3.0


class ContainerLog:
    """Follows one container's output in a thread with a connection of its own. `start`: the file's size before this container."""

    def __init__(self, engine: Engine, container: str, file: Path, start: int) -> None:
        self._engine, self._container, self._file, self._start = engine, container, file, start
        self._thread: threading.Thread | None = None
        self._stream: Any = None
        self._full: OSError | None = None

    def keep_up(self) -> None:
        """Copy on; starts again what a lost connection ended. Raises ResourceError when this machine's disk is full."""
        self._raise_full()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._copy, args=(True,), daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """The container ended: copy what is left. Raises UnreachableError when the engine does not answer."""
        self.stop()
        whole = self._copy(False)
        self._raise_full()
        if not whole:
            raise UnreachableError("the end of the container's output could not be read")

    def stop(self) -> None:
        """Give up the connection, which may be dead; `keep_up` makes another."""
        _close_stream(self._stream, cut=True)
        if self._thread:
            self._thread.join(JOIN_S)
            self._thread = None

    def _copy(self, follow: bool) -> bool:
        """True when the output's end was reached, or another process copies it."""
        with self._file.open("ab", buffering=0) as out:
            try:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            skip = max(0, os.fstat(out.fileno()).st_size - self._start)
            try:
                client = self._engine.connect(PULL_S)
            except UnreachableError:
                return False
            try:
                self._stream = client.api.logs(self._container, stdout=True, stderr=True, stream=True, follow=follow)
                for chunk in self._stream:
                    if fresh := chunk[skip:]:
                        self._write(out, fresh)
                    skip = max(0, skip - len(chunk))
                return True
            except APIError as err:
                return bool(err.status_code == 404)
            except (*LOST, ValueError):  # ValueError: `stop` closed the stream under the reader
                return False
            finally:
                _close_stream(self._stream)
                self._stream = None
                close(client)

    def _write(self, out: Any, data: bytes) -> None:
        try:
            while data:
                data = data[out.write(data) :]
        except OSError as err:
            self._full = err
            raise

    def _raise_full(self) -> None:
        if self._full is not None:
            err, self._full = self._full, None
            with disk_full_is_named(self._file):
                raise err


def _close_stream(stream: Any, *, cut: bool = False) -> None:
    """docker's own `close` only shuts the socket down, which wakes a reader; the answer above it must be closed as well."""
    if stream is None:
        return
    close(stream)
    if not cut:
        close(stream._response)
