"""Where everything of a target lies, under its root (the picture is in ADR 44)."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.errors import StateError

NAME = r"\d{4,}-[0-9a-f]{8}"  # of a release: a number never used before, and the first digits of its engine's digest
DIGEST = r"[0-9a-f]{64}"
ENGINE, INDEX = "engine", "index"  # folders of a release: its engine's artifact, and the index's that goes with it


class TargetPaths:
    """The files and folders of one target. None is made here."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.layers = self.root / "layers"
        self.incoming = self.root / "incoming"
        self.releases = self.root / "releases"
        self.pointer = self.root / "current"
        self.history = self.root / "history.jsonl"
        self.journal = self.root / "journal.jsonl"
        self.holds = self.root / "holds.json"
        self.proxy = self.root / "proxy"
        self.lock = self.root / "lock"

    def release(self, name: str) -> Path:
        """The folder of a release. Raises StateError for what is no release's name: it would lead out of the root."""
        if not re.fullmatch(NAME, name):
            next_step = "`slipway rollback TARGET` lists the releases"
            raise StateError("release", name, "a name like 0007-3fa9c1d2", next_step)
        return self.releases / name

    def layer(self, digest: str) -> Path:
        """The folder of a layer by the sha256 of its tar, 64 hex digits. Raises StateError for anything else."""
        if not re.fullmatch(DIGEST, digest):
            raise StateError("layer", digest, "64 hex digits of a sha256", "copy the bundle again")
        return self.layers / digest
