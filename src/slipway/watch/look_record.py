"""Looks at a target, one JSON object a line in `<store>/watch/<target>/looks.jsonl`: what spends alpha, and the plot.

No prompt and no answer is in it. A half-written last line, of a process that was killed, is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from slipway.store.usage import WATCH
from slipway.system.files import disk_full_is_named
from slipway.system.json_files import as_model, is_present, read_json_lines
from slipway.system.locks import locked

_MEND = "mend that line, or delete it: then its look counts as never taken"


class PastLook(BaseModel):
    """What is read of an earlier look; `document` is all of it."""

    at_s: float
    release: str
    created: str
    document: dict[str, Any] = {}


class LookRecord:
    """The looks at one target, by its name."""

    def __init__(self, store: Path, target: str) -> None:
        self.folder = store / WATCH / (re.sub(r"[^A-Za-z0-9_-]+", "-", target) or "-")
        self.file = self.folder / "looks.jsonl"

    @contextmanager
    def open(self) -> Iterator[None]:
        """One look at a time. Raises ResourceError naming who looks already."""
        with locked(self.folder / "looks.lock", 0.0, "look at what serves", of=f"looks at {self.folder.name}"):
            yield

    def looks(self) -> list[PastLook]:
        """All looks, oldest first. Raises StateError naming the line that is none."""
        if not is_present(self.file):
            return []
        rows = read_json_lines(self.file, "looks at a target", _MEND, appended=True)
        return [
            as_model(PastLook, {**row, "document": row}, f"looks at a target: {self.file}, line {number}", _MEND)
            for number, row in enumerate(rows, 1)
        ]

    def add(self, document: dict[str, Any]) -> None:
        """Append a look, whole. Raises ResourceError when the disk is full."""
        with disk_full_is_named(self.file):
            self.folder.mkdir(parents=True, exist_ok=True)
            whole = self.file.read_bytes() if self.file.exists() else b""
            ends = whole.rfind(b"\n") + 1  # a half-written line must not become the beginning of this one
            with self.file.open("r+b" if whole else "wb") as file:
                file.truncate(ends)
                file.seek(ends)
                file.write(json.dumps(document).encode() + b"\n")
