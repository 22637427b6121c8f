"""What the rooms share of the lab's trainer: where it is, a recipe for it, rows to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

TRAINER = Path(__file__).parent / "trainer"
AUTOMODEL = TRAINER / "automodel"


def write_rows(path: Path, count: int = 64) -> Path:
    """Write `count` chat rows to `path`."""
    devices = ("lamp", "fan", "radio", "heater")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"switch {d} {i} on"},
                {"role": "assistant", "content": f'{{"on":"{d}"}}'},
            ]
        }
        for i, d in ((i, devices[i % 4]) for i in range(count))
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def write_recipe(
    path: Path, checkpoints: str, data: str | None = None, *, max_steps: int = 12, every: int = 4, **more: Any
) -> Path:
    """A recipe with the keys the trainer reads, as the renderer of `slipway recipe` names them."""
    recipe: dict[str, Any] = {
        "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
        "seed": 1,
        "step_scheduler": {
            "global_batch_size": 8,
            "num_epochs": 100,
            "max_steps": max_steps,
            "ckpt_every_steps": every,
            "save_checkpoint_every_epoch": False,
        },
        "optimizer": {"lr": 1e-4},
        "lr_scheduler": {"lr_warmup_steps": 1, "min_lr": 0.0},
        "peft": {"dim": 4, "alpha": 8, "target_modules": "*_proj"},
        "checkpoint": {"checkpoint_dir": checkpoints, "max_recent_checkpoints": 3},
    }
    if data:
        recipe["dataset"] = {"path_or_dataset_id": data}
    path.write_text(yaml.safe_dump({**recipe, **more}))
    return path


def steps_logged(checkpoints: Path) -> list[int]:
    """Steps that training.jsonl holds, in the order of its lines."""
    return [json.loads(line)["step"] for line in (checkpoints / "training.jsonl").read_text().splitlines()]
