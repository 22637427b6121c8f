"""Artifacts whose large files lie on another machine only.

    <store>/<kind>/<key>/manifest.json   all files, as anywhere
    <store>/<kind>/<key>/placed.json     the machine, and which of the files are there and not here

What is here is verified as in any artifact. Who needs the other files runs there, or has them brought
(`pipeline/remote.py`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from slipway.system.json_files import is_present, read_model

PLACED = "placed.json"


class Placed(BaseModel):
    """`address` is `ssh://user@host[:port]`; `folder` and `python` are paths there (`config/remote.py`); `files` are
    those of the artifact that are not here, by their paths in it."""

    model_config = ConfigDict(frozen=True)

    address: str
    folder: str
    python: str
    files: tuple[str, ...]


def placed(artifact: Path) -> Placed | None:
    """Where files of the artifact in this directory lie that are not here; None for one that is whole here. Raises
    StateError for a damaged record."""
    file = artifact / PLACED
    if not is_present(file):
        return None
    return read_model(Placed, file, "place of an artifact's files", f"delete {artifact} and run again")


def placed_files(artifact: Path) -> frozenset[str]:
    """Paths in the artifact of the files that are not here."""
    there = placed(artifact)
    return frozenset(there.files) if there else frozenset()
