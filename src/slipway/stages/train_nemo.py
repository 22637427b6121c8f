"""Stage `train_nemo`: base + data -> PEFT adapter, or full fine-tuning's weights, by NeMo where the target says.

This process trains nothing. It renders the recipe, has one job run NVIDIA's own entry point on it, follows the job, and
believes only what it finds at the end: the last step's checkpoint, and weights in it that fit the base.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.config.target import LocalRunConfig
from slipway.errors import StageError
from slipway.pipeline.workspace import Workspace
from slipway.runners.base import stopped_by_sigterm
from slipway.runners.choose import described, runner_for
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from slipway.system.files import sha256_bytes
from slipway.system.progress import Progress
from slipway.training.nemo.attempts import AttemptTotals, run_to_end
from slipway.training.nemo.checkpoints import SavedCheckpoint, latest
from slipway.training.nemo.log import TrainingLog
from slipway.training.nemo.params import NemoTrainParams, image_digest, nemo_train_params

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.training.nemo.job import JobFiles
    from slipway.training.nemo.run_recipe import RunRecipe

OUTPUT = Adapter
# The recipe, the labels and the count of its steps decide the adapter; runners, logs and attempts carry it out, and
# days of training are not thrown away because one of those was mended. Left out of what they reach: modules that only
# refuse.
CODE = ("training.nemo.recipe", "training.nemo.steps", "training.nemo.labelled_rows", "data.labels", "data.tokens")
CODE_WITHOUT = ("errors", "training.nemo.schema", "data.problems", "data.text_checks", "data.rows")


def params_of(config: Config) -> NemoTrainParams:
    """This stage's params in a run. Raises ConfigError when the target's image has no row."""
    return nemo_train_params(config)


def train_nemo(base: Checkpoint, data: Dataset, params: NemoTrainParams, space: Workspace) -> None:
    """Write a PEFT adapter directory, or the weights of full fine-tuning; `training.jsonl`, `recipe.yaml` and
    `summary.json`.

    Raises ConfigError before any work for what NeMo would do wrong or not at all; StageError or ResourceError when
    attempts get no further. Checkpoints stay in `space.work`: the next run adopts a job that still runs, or resumes.
    """
    from slipway.training.nemo.job import JobFiles, write_job
    from slipway.training.nemo.run_recipe import run_recipe

    runner = runner_for(params.target, params.image)
    files = JobFiles(base, data, space.work / "nemo", params)
    recipe = run_recipe(files)
    job = write_job(files, recipe.text)
    space.progress.note(
        f"{recipe.rows} rows, {recipe.tokens} tokens an epoch, {recipe.steps} steps, {params.train.method} by "
        f"{job.name}"
    )
    log = TrainingLog(files.checkpoints / "training.jsonl", job.log)
    follower = LogFollower(log, recipe.steps, space.progress)
    poll_s = 0.2 if isinstance(params.target.runner, LocalRunConfig) else 2.0
    with stopped_by_sigterm():
        ended = run_to_end(
            runner,
            job,
            files.checkpoints,
            recipe.steps,
            follower.look,
            space.progress.note,
            through=described(params.target),
            poll_s=poll_s,
        )
    _keep(files, recipe, log, ended, space)


@dataclass
class LogFollower:
    """Tells the stage's progress what the training log has that is new."""

    log: TrainingLog
    steps: int
    progress: Progress
    _since: tuple[float, int] | None = field(default=None)

    def look(self) -> None:
        """Report the steps that were logged since the last call."""
        fresh = self.log.new_steps()
        for step in fresh:
            self.progress.metric(step=step["step"] + 1, **figures(step))
        if fresh:
            self._update(fresh[-1])

    def _update(self, last: dict[str, Any]) -> None:
        done, now = last["step"] + 1, time.monotonic()
        self._since = self._since or (now, done)
        shown = {k: v for k, v in figures(last).items() if k in ("loss", "tokens_per_s", "memory_gib")}
        gained, passed = done - self._since[1], now - self._since[0]
        if gained:
            shown["eta_s"] = passed / gained * (self.steps - done)
        self.progress.update("train", done, self.steps, "step", **shown)


NAMES = {
    "loss": "loss",
    "lr": "lr",
    "grad_norm": "grad_norm",
    "tps": "tokens_per_s",
    "mem": "memory_gib",
    "mfu": "mfu",
    "num_tokens_per_step": "tokens",
    "num_label_tokens": "label_tokens",
}


def figures(step: dict[str, Any]) -> dict[str, float]:
    """Upstream's figures by the names the embedded trainer uses. Tokens are counted without padding."""
    return {ours: float(step[theirs]) for theirs, ours in NAMES.items() if isinstance(step.get(theirs), int | float)}


def _keep(files: JobFiles, recipe: RunRecipe, log: TrainingLog, ended: AttemptTotals, space: Workspace) -> None:
    from slipway.training.nemo.job import RECIPE

    saved = latest(files.checkpoints)
    if saved is None or saved.step != recipe.steps - 1:
        last = saved.path.name if saved else "none"
        raise StageError(
            "last checkpoint", last, f"the one of step {recipe.steps - 1}", f"look into {files.checkpoints}"
        )
    take = _keep_weights if files.params.train.method == "sft" else _keep_adapter
    trained = take(saved, files, space)
    (space.out / RECIPE).write_text(recipe.text, encoding="utf-8")
    log.write(space.out / "training.jsonl", recipe.steps)
    summary = {**_summary(log, recipe, ended), "val_loss": _val_loss(saved.path), "trainable_parameters": trained}
    summary |= {"image_digest": image_digest(files.params), "recipe_sha256": sha256_bytes(recipe.text.encode())}
    (space.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _keep_adapter(saved: SavedCheckpoint, files: JobFiles, space: Workspace) -> int:
    """Check the adapter and take it; the number of its parameters."""
    from slipway.weights.adapter_check import check_adapter, name_base
    from slipway.weights.adapter_config import CONFIG
    from slipway.weights.adapter_tensors import WEIGHTS

    trained = check_adapter(saved.model, files.base, files.params.train)
    for name in (WEIGHTS, CONFIG):
        shutil.copyfile(saved.model / name, space.out / name)
    name_base(space.out / CONFIG, files.params.model.name)
    return trained


def _keep_weights(saved: SavedCheckpoint, files: JobFiles, space: Workspace) -> int:
    """Check the weights of full fine-tuning and take them; their number. Upstream writes whole tensors with the last
    checkpoint only (`save_consolidated: final`), the others hold each GPU's share."""
    from slipway.weights.checkpoint import open_checkpoint
    from slipway.weights.full_weights import check_full_weights, pass_through

    weights, _ = check_full_weights(saved.consolidated, open_checkpoint(files.base))
    pass_through(saved.consolidated, space.out)
    return sum(weights.info(name).numel for name in weights.names())


def _summary(log: TrainingLog, recipe: RunRecipe, ended: AttemptTotals) -> dict[str, Any]:
    history = log.history()
    rates = sorted(s["tps"] for s in history if isinstance(s.get("tps"), int | float))
    return {
        "steps": recipe.steps,
        "tokens": _tokens(history),
        "train_loss": history[-1]["loss"],
        "seconds": round(ended.seconds, 1),
        "tokens_per_s": round(rates[len(rates) // 2], 1) if rates else None,
        "memory_gib": max((s["mem"] for s in history if "mem" in s), default=None),
        "attempts": ended.attempts,
    }


def _tokens(history: list[dict[str, Any]]) -> int | None:
    """Tokens of the run, padding left out. Steps whose exact line a kill took along count as the mean of the others."""
    known = [int(s["num_tokens_per_step"]) for s in history if "num_tokens_per_step" in s]
    return round(sum(known) / len(known) * len(history)) if known else None


def _val_loss(checkpoint: Path) -> float | None:
    """Validation loss of the last checkpoint, where the recipe validates."""
    file = checkpoint / "losses.json"
    loss = json.loads(file.read_text(encoding="utf-8")).get("val_loss") if file.exists() else None
    return float(loss) if isinstance(loss, int | float) else None
