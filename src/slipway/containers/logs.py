"""A container's output, copied to a file byte for byte, without loss or repetition, however often the copy is
interrupted.

The engine keeps the whole output. What is in the file after `start` is the part copied already, so whoever goes on, in
this process or in a new one, reads from the beginning and leaves out as many bytes; a copy cut in the middle of a line
goes on there. One copy runs at a time: it holds a lock on the file. A stream that ends says nothing about why, so the
end is read once more, whole, by a call that knows when its answer is cut short.
"""

from __future__ import annotations

import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from slipway.containers.docker_client import LOST, PULL_S, DockerClient, UnreachableError, close
from slipway.system.files import disk_full_is_named
from slipway.system.locks import lock_open_file


class ContainerLog:
    """Follows one container's output. `start`: the file's size before this container."""

    def __init__(self, engine: DockerClient, container: str, file: Path, start: int) -> None:
        self._engine, self._container, self._file, self._start = engine, container, file, start
        self._copy: _Copy | None = None

    def keep_up(self) -> None:
        """Copy on in a thread; starts again what a lost connection ended. Raises ResourceError when this machine's disk
        is full.
        """
        if self._copy and self._copy.full:
            full = self._copy.full
            self.stop()
            with disk_full_is_named(self._file):
                raise full
        if (self._copy is None or not self._copy.thread.is_alive()) and (out := self._alone()):
            self.stop()
            self._copy = _Copy(self._engine, self._container, out, self._copied(out))

    def finish(self) -> None:
        """The container ended: copy what is left. Raises UnreachableError when the engine does not answer,
        ResourceError when the disk is full.
        """
        self.stop()
        out = self._alone()
        if out is None:
            return  # another process follows this container
        with out, disk_full_is_named(self._file):
            _write(out, self._whole()[self._copied(out) :])

    def stop(self) -> None:
        """Give up the connection, which may be dead; `keep_up` makes another."""
        if self._copy:
            self._copy.cut()
            self._copy = None

    def _whole(self) -> bytes:
        try:
            return bytes(self._engine.ask(lambda c: c.api.logs(self._container, stdout=True, stderr=True)))
        except NotFound:
            return b""  # removed meanwhile: what was copied is what there is

    def _alone(self) -> FileIO | None:
        """The file, locked; None while another copy runs."""
        out = self._file.open("ab", buffering=0)
        if lock_open_file(out):
            return out
        out.close()
        return None

    def _copied(self, out: FileIO) -> int:
        return max(0, os.fstat(out.fileno()).st_size - self._start)


class _Copy:
    """One connection that follows the output in a thread. Once cut it writes nothing more, even if the thread is stuck
    in a read.
    """

    def __init__(self, engine: DockerClient, container: str, out: FileIO, copied: int) -> None:
        self._engine, self._container, self._out, self._skip = engine, container, out, copied
        self._lock, self._over = threading.Lock(), False
        self._client: Any = None
        self._stream: Any = None
        self.full: OSError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def cut(self) -> None:
        with self._lock:
            self._over = True
            self._out.close()
        if self._stream is not None:
            close(self._stream)  # wakes the reader; over ssh only the end of the client does
        if self._client is not None:
            close(self._client)

    def _run(self) -> None:
        try:
            self._client = self._engine.connect(PULL_S)
            self._stream = self._client.api.logs(self._container, stdout=True, stderr=True, stream=True, follow=True)
            for chunk in self._stream if not self._over else ():
                if not self._take(chunk):
                    break
        except (UnreachableError, APIError, *LOST, ValueError):  # ValueError: `cut` closed the stream under the reader
            pass
        finally:
            with self._lock:
                self._out.close()
            if self._stream is not None:
                close(self._stream._response)
            if self._client is not None:
                close(self._client)

    def _take(self, chunk: bytes) -> bool:
        fresh, self._skip = chunk[self._skip :], max(0, self._skip - len(chunk))
        with self._lock:
            if self._over:
                return False
            try:
                _write(self._out, fresh)
            except OSError as err:
                self.full = err
                return False
        return True


def _write(out: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) or 0 :]
