"""SIGTERM as a request that work answers when it can: at a checkpoint, in place of in the middle of a step.

Whoever asks may kill a process that does not end in its time, so what notes the signal must look often enough.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM  # what a shell reports for a program that SIGTERM ended


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """While it is open, SIGTERM ends nothing; the function that it gives says whether one was sent. Afterwards
    the signal does what it did before.

    Only a main thread can handle signals: in another the function answers no, and SIGTERM does what it did.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        requested.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield requested.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
