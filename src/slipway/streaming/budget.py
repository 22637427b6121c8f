"""A bound on bytes in flight, shared by worker threads.

Short because it is one class, of which the streamed and the calibrated pass each make their own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """At most `nbytes` held at a time; who asks for more than is free waits."""

    def __init__(self, nbytes: float) -> None:
        self.nbytes = nbytes
        self._free, self._changed = nbytes, threading.Condition()

    @contextmanager
    def hold(self, nbytes: float) -> Iterator[None]:
        """`nbytes` must not exceed the whole budget."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= nbytes)
            self._free -= nbytes
        try:
            yield
        finally:
            with self._changed:
                self._free += nbytes
                self._changed.notify_all()
