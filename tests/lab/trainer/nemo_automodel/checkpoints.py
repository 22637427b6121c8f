"""Checkpoints as nemo-automodel 0.7.0 writes them (components/checkpoint/lifecycle.py).

    epoch_E_step_S/.incomplete    there while the save runs: reserved under a staging name, renamed, removed after
    LATEST moved
    epoch_E_step_S/model/         adapter_model.safetensors, adapter_config.json
    epoch_E_step_S/optim/         optimizer state;  rng/, step_scheduler, losses.json, config.yaml beside it
    LATEST, LOWEST_VAL            relative symlinks, replaced in one step

Steps count from 0: the checkpoint after the last of N steps is `step_<N-1>`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file, save_file

from nemo_automodel.model import Pairs

NAME = re.compile(r"epoch_(\d+)_step_(\d+)")


class Checkpoints:
    """Checkpoint directories with upstream's names, files and order of writing; the newest `keep` stay, and the
    best."""

    def __init__(self, root: Path, keep: int | None, model: str, save_s: float) -> None:
        self.root, self._keep, self._model, self._save_s = root, keep, model, save_s
        root.mkdir(parents=True, exist_ok=True)

    def latest(self) -> Path | None:
        """The complete checkpoint that LATEST names, else the highest complete step."""
        named = self.root / "LATEST"
        if named.is_symlink() and _complete(named.resolve()):
            return named.resolve()
        return max((p for p in self._all() if _complete(p)), key=_step, default=None)

    def save(
        self,
        epoch: int,
        step: int,
        pairs: Pairs,
        state: dict[str, Any],
        recipe: dict[str, Any],
        losses: dict[str, float],
    ) -> Path:
        """Write a checkpoint: marked incomplete, LATEST pointed to it, the mark removed last."""
        path = self._reserve(f"epoch_{epoch}_step_{step}")
        _write(path / "losses.json", json.dumps(losses))
        _write(path / "step_scheduler.json", json.dumps(state))
        (path / "model").mkdir()
        save_file(
            {f"base_model.model.{k}.weight": v for k, v in pairs.weights.items()},
            path / "model" / "adapter_model.safetensors",
        )
        time.sleep(self._save_s)  # an interrupted save leaves the directory marked, as a slow disk would
        _write(
            path / "model" / "adapter_config.json", json.dumps(self._adapter_config(pairs), indent=2, sort_keys=True)
        )
        (path / "optim").mkdir()
        save_file(pairs.momentum, path / "optim" / "state.safetensors")
        _write(path / "config.yaml", yaml.safe_dump(recipe, sort_keys=False))
        self._point("LATEST", path)
        (path / ".incomplete").unlink()
        if "val_loss" in losses and losses["val_loss"] < self._best():
            self._point("LOWEST_VAL", path)
        self._prune()
        return path

    def load(self, path: Path, pairs: Pairs) -> dict[str, Any]:
        """Put a checkpoint's weights and momentum into `pairs`; returns the scheduler's state."""
        loaded = load_file(path / "model" / "adapter_model.safetensors")
        pairs.weights = {k: loaded[f"base_model.model.{k}.weight"] for k in pairs.weights}
        pairs.momentum = load_file(path / "optim" / "state.safetensors")
        return dict(json.loads((path / "step_scheduler.json").read_text()))

    def _reserve(self, name: str) -> Path:
        path = self.root / name
        if path.exists() and _complete(path):
            raise FileExistsError(f"Checkpoint directory {path} already holds a published checkpoint.")
        shutil.rmtree(path, ignore_errors=True)
        staging = self.root / f"{name}.staging.{uuid.uuid4().hex}"
        staging.mkdir()
        (staging / ".incomplete").touch()
        staging.rename(path)
        return path

    def _point(self, link: str, target: Path) -> None:
        temporary = self.root / f".{link}.{uuid.uuid4().hex}.tmp"
        temporary.symlink_to(target.name)
        temporary.replace(self.root / link)

    def _best(self) -> float:
        named = self.root / "LOWEST_VAL" / "losses.json"
        return float(json.loads(named.read_text())["val_loss"]) if named.exists() else float("inf")

    def _prune(self) -> None:
        if self._keep is None:
            return
        complete = sorted((p for p in self._all() if _complete(p)), key=_step)
        pointed = {(self.root / link).resolve() for link in ("LATEST", "LOWEST_VAL")}
        for path in complete[: -self._keep]:
            if path.resolve() not in pointed:
                shutil.rmtree(path)

    def _all(self) -> list[Path]:
        return [p for p in self.root.glob("epoch_*_step_*") if NAME.fullmatch(p.name)]

    def _adapter_config(self, pairs: Pairs) -> dict[str, Any]:
        modules = sorted({k.rpartition(".")[0] for k in pairs.weights})
        return {
            "task_type": "CAUSAL_LM",
            "peft_type": "LORA",
            "r": pairs.rank,
            "lora_alpha": pairs.alpha,
            "use_dora": False,
            "target_modules": modules,
            "bias": "none",
            "base_model_name_or_path": self._model,
        }


def _step(path: Path) -> int:
    return int(path.name.rpartition("_")[2])


def _complete(path: Path) -> bool:
    return path.is_dir() and not (path / ".incomplete").exists()


def _write(path: Path, text: str) -> None:
    with path.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
