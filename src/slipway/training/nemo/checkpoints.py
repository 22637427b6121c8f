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
class SavedCheckpoint:
    """A complete checkpoint directory: the state after the 0-based `step`."""

    step: int
    path: Path

    @property
    def model(self) -> Path:
        """The adapter's directory, as PEFT stores it."""
        return self.path / "model"

    @property
    def consolidated(self) -> Path:
        """Whole weights under Hugging Face's names, where full fine-tuning wrote them."""
        return self.model / "consolidated"


def complete(root: Path) -> list[SavedCheckpoint]:
    """Complete checkpoints below `root`, fewest steps first. Links are left out: upstream names the newest and the best
    by links."""
    names = ((_NAME.fullmatch(p.name), p) for p in root.glob("epoch_*_step_*"))
    checkpoints = [
        SavedCheckpoint(int(m[1]), p)
        for m, p in names
        if m and p.is_dir() and not p.is_symlink() and not (p / INCOMPLETE).exists()
    ]
    return sorted(checkpoints, key=lambda s: s.step)


def latest(root: Path) -> SavedCheckpoint | None:
    """The checkpoint that a resume starts from; None when there is none."""
    checkpoints = complete(root)
    return checkpoints[-1] if checkpoints else None


def steps_done(root: Path) -> int:
    """Optimizer steps that are complete on disk: a resume starts after them."""
    saved = latest(root)
    return saved.step + 1 if saved else 0
