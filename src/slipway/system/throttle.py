"""At most one call in so many seconds. Short because progress lines, the UI and MLflow each need it, nothing else."""

from __future__ import annotations

import time


class Throttle:
    """Says when something is due: the first time, and then at most once in `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._last = every_s, float("-inf")

    def due(self) -> bool:
        """True when `every_s` seconds have passed since it last was."""
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True
