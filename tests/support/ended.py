"""Whether processes have ended, as tests ask: also of those that are nobody's children any more."""

from __future__ import annotations

import time

import psutil

PATIENCE_S = 60.0


def has_ended(pid: int) -> bool:
    """Whether it ends within a minute. Who sent it a signal does not wait for the kernel to end it, nor for whoever
    reaps it; where nobody does it stays a zombie."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False
