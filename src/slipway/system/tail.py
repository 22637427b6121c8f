"""Complete lines appended to a file since the last look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Tail:
    """Reads on where the last look ended; a half-written last line waits for its end. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def lines(self) -> Iterator[str]:
        """New lines with their end; bytes that are no UTF-8 are replaced. A file that was replaced by a shorter one is
        read from its beginning."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line.decode(errors="replace")

    def events(self) -> Iterator[dict[str, Any]]:
        """New lines as JSON objects; a line that is none (a disk that lost power leaves such) becomes a note that shows
        it.
        """
        for line in self.lines():
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            yield (
                event
                if isinstance(event, dict)
                else {"event": "note", "text": f"unreadable event: {line.strip()[:80]}"}
            )
