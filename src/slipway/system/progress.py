"""What a stage says while it works: JSON lines in a file, so that any process can follow from any machine.

Event kinds:
- progress: `done` and `total` in `unit`, plus figures worth showing (`loss`, `tokens_per_s`); `total` may be null.
- metric: figures of one `step`, kept for ever (loss curve).
- note: one sentence for a person.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Self


class Progress:
    """Appends events to a file, or drops them when there is none. `every_s` thins progress events, never metrics or
    notes.
    """

    def __init__(self, path: Path | None = None, every_s: float = 0.5) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8") if path else None
        self._every_s, self._last = every_s, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def update(self, what: str, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """`done` of `total` in `unit`, with figures worth showing; `total` None where it is not known."""
        now = time.monotonic()
        if now - self._last >= self._every_s or done == total:
            self._last = now
            self._write(event="progress", what=what, done=done, total=total, unit=unit, **figures)

    def metric(self, step: int, **figures: float) -> None:
        """Figures of one step, kept for ever."""
        self._write(event="metric", step=step, **figures)

    def note(self, text: str) -> None:
        """One sentence for a person."""
        self._write(event="note", text=text)

    def _write(self, **event: Any) -> None:
        if self._file:
            self._file.write(json.dumps({"t": time.time(), **event}) + "\n")
