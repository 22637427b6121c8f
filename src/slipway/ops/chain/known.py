"""What is known beforehand of what a stage yields. Short because stages, walk and moves all speak of it."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.store.artifacts import Artifact

UNMADE = "not made yet"  # in place of a digest


@dataclass(frozen=True)
class Known:
    """What a stage yields: its artifact, where it is there already; else the newest of its kind, whose size stands in
    for it in estimates; else nothing. `pending`: what happens to it before others can read it; `made_here`: the title
    of the stage that makes it, where that runs on this machine; empty for another."""

    artifact: Artifact | None = None
    stand_in: Artifact | None = None
    pending: str = "made anew"
    made_here: str = ""

    @property
    def digest(self) -> str:
        """Of the artifact; `UNMADE` where it is not there."""
        return self.artifact.digest if self.artifact else UNMADE

    def any(self) -> Artifact | None:
        """Either of them."""
        return self.artifact or self.stand_in
