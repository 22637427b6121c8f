"""NeMo AutoModel's checkpoint directory, read from outside.

`epoch_E_step_S/` holds the state after the 0-based step S, so a run of N steps ends with S = N - 1. While a checkpoint
is written a file `.incomplete` stands in it; upstream removes it last, after LATEST points there
(components/checkpoint/lifecycle.py, `_publish_checkpoint`), and a resume passes over directories that still have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

INCOMPLETE = ".incomplete"
_NAME = re.compile(r"epoch_\d+_step_(\d+)")


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint, of 0-based `step`."""

    step: int
    path: Path

    @property
    def model(self) -> Path:
        """Where the adapter is, as PEFT stores it."""
        return self.path / "model"


def complete(root: Path) -> list[Saved]:
    """Complete checkpoints, oldest first."""
    names = ((_NAME.fullmatch(p.name), p) for p in root.glob("epoch_*_step_*"))
    found = [
        Saved(int(m[1]), p)
        for m, p in names
        if m and p.is_dir() and not p.is_symlink() and not (p / INCOMPLETE).exists()
    ]
    return sorted(found, key=lambda s: s.step)


def latest(root: Path) -> Saved | None:
    """What a resume starts from."""
    found = complete(root)
    return found[-1] if found else None


def steps_done(root: Path) -> int:
    """Optimizer steps that are safe on disk."""
    saved = latest(root)
    return saved.step + 1 if saved else 0
