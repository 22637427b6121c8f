"""What files hold in a folder that programs are at work in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below `folder` with its bytes; without a database's journal that is gone when its turn comes."""
    files: dict[Path, bytes] = {}
    for place, _, names in os.walk(folder):  # unlike rglob it passes over a folder that is gone
        for file in (Path(place, name) for name in names):
            if file.is_file():
                with suppress(FileNotFoundError):
                    files[file] = file.read_bytes()
    return files
