"""What a stage may touch.

Short because it stands alone: a stage's code version covers this, and not the machinery that runs stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.system.progress import Progress


@dataclass(frozen=True)
class Workspace:
    """`out` becomes the artifact; `work` outlives a crash of the same job (checkpoints); `cache` is shared between jobs
    and clones (downloads, builds)."""

    out: Path
    work: Path
    cache: Path
    progress: Progress
