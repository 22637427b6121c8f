"""Calls that may meet silence: tried again, with growing pauses, for so many seconds or so many times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until_answered(
    call: Callable[[], T],
    silence: type[Exception] | tuple[type[Exception], ...],
    *,
    seconds: float = float("inf"),
    tries: float = float("inf"),
    pause_s: float = 0.2,
    longest_pause_s: float = 10.0,
) -> T:
    """What `call` returns. An exception of `silence` means that nobody answered: after `pause_s`, doubled each time up
    to `longest_pause_s`, it is called again.

    The last such exception is raised when the next try would begin more than `seconds` after the first, or after
    `tries` calls. Any other exception is an answer and passes at once.
    """
    deadline, tried = time.monotonic() + seconds, 0
    while True:
        try:
            return call()
        except silence:
            tried += 1
            if tried >= tries or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_pause_s)
