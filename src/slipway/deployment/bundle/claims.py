"""Blobs of a layout that somebody is about to deliver, so that nobody else's clean-up takes them.

    <layout>.claims/<claim>    a digest a line; without effect LEASE_S after its last one, when its owner was killed

Between packing a release and its receipt by the target, which may be two commands from another machine, no process has
the blobs in hand, and the index of the layout need not name them.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from slipway.errors import BundleError

LEASE_S = 86_400.0  # of a delivery whose end nobody told


class Claims:
    """The claims beside a layout. Whoever changes or reads them holds the layout's lock."""

    def __init__(self, layout: Path) -> None:
        self._folder = layout.with_name(f"{layout.name}.claims")

    def add(self, claim: str, digest: str) -> None:
        """Claim a blob (sha256, hex)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / claim).open("a", encoding="ascii") as file:
            file.write(f"{digest}\n")

    def release(self, claim: str) -> None:
        """End a claim, delivered or not. Raises BundleError for what is no claim's name."""
        try:
            name = uuid.UUID(hex=claim).hex
        except (ValueError, AttributeError, TypeError):
            raise BundleError(f"claim {claim!r:.100}", "no claim", "32 hex digits", "report this") from None
        (self._folder / name).unlink(missing_ok=True)

    def held(self) -> set[str]:
        """Digests that are claimed; claims beyond their lease are removed."""
        digests: set[str] = set()
        for file in self._folder.iterdir() if self._folder.is_dir() else ():
            if time.time() - file.stat().st_mtime > LEASE_S:
                file.unlink()
            else:
                digests |= set(file.read_text(encoding="ascii").split())
        return digests
