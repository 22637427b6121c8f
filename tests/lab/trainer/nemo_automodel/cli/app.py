"""A small real training program with the file contract of nemo-automodel 0.7.0: same recipe, same files, same behaviour
on SIGTERM.

    automodel RECIPE --nproc-per-node N            or, from a launcher:  python -m nemo_automodel.cli.app RECIPE

It reads of the recipe: step_scheduler, checkpoint, model.pretrained_model_name_or_path, peft, dataset and
validation_dataset (ChatDataset JSONL, or labelled rows), optimizer.lr, lr_scheduler, clip_grad_norm, seed. Kept as
upstream does it:
- steps count from 0; `training.jsonl` is appended to across resumes, and **buffered: 100 records, then the file's own
  buffer**, so a
  killed run loses the last ones and a short run shows none before its end. The log has one line a step, at once.
- SIGTERM: a checkpoint at the end of the running step, then exit 0, finished or not.
- a rerun with the same directory goes on from the latest complete checkpoint, with the LR schedule of the first run.
- a rerun of a finished run trains nothing and exits 0.

For tests, by environment: TRAINER_STEP_S (seconds a step takes), TRAINER_SAVE_S (seconds a save takes),
TRAINER_DIE=STEP:CODE (exit with CODE after that step, or by signal for a negative one), TRAINER_BUFFER (records
buffered; upstream's is 100), TRAINER_STAMPS (file that gets one JSON line for every write: token, pid, time, what),
TRAINER_TOKEN (the token in it).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nemo_automodel.checkpoints import Checkpoints
from nemo_automodel.model import Pairs, module_shapes, read_labelled, read_samples

log = logging.getLogger("nemo_automodel")
DEMO = [(np.frombuffer(b"user: hi\nassistant: hello\n", np.uint8), np.ones(26, bool))]


class Metrics:
    """training.jsonl as upstream's MetricLogger writes it: `size` records in memory, then the file object's buffer."""

    def __init__(self, path: Path, size: int) -> None:
        self._file, self._size, self._held = path.open("a"), size, list[str]()

    def log(self, **record: Any) -> None:
        """Add a record; the file sees it when `size` records are held."""
        self._held.append(json.dumps(record))
        if len(self._held) >= self._size:
            self._drain()
            if self._size == 1:
                self._file.flush()

    def close(self) -> None:
        """Write what is held and close the file."""
        self._drain()
        self._file.close()

    def _drain(self) -> None:
        self._file.write("".join(f"{line}\n" for line in self._held))
        self._held = []


class Training:
    """A fine-tune of LoRA pairs as a recipe describes it, one step at a time."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        self.recipe = recipe
        steps, model, peft = recipe["step_scheduler"], recipe.get("model", {}), recipe.get("peft", {})
        self.directory = model.get("pretrained_model_name_or_path")
        shapes = module_shapes(self.directory, peft.get("target_modules", "*_proj"))
        self.pairs = Pairs(shapes, int(peft.get("dim", 8)), float(peft.get("alpha", 16)), int(recipe.get("seed", 42)))
        self.train = _samples(recipe.get("dataset")) or DEMO
        self.validation = _samples(recipe.get("validation_dataset"))
        self.batch = int(steps.get("global_batch_size", 32))
        self.epoch_len = math.ceil(len(self.train) / self.batch)
        epochs = steps.get("num_epochs")
        self.max_steps = int(steps.get("max_steps") or self.epoch_len * int(epochs or 10))
        self.end = (
            min(self.max_steps, self.epoch_len * int(epochs)) if epochs and "dataset" in recipe else self.max_steps
        )
        self.every = int(steps.get("ckpt_every_steps") or 100)
        self.epoch_saves = bool(steps.get("save_checkpoint_every_epoch", True)) and "dataset" in recipe
        self.validates = bool(steps.get("validate_on_checkpoint", True))
        options = recipe["checkpoint"]
        self.files = Checkpoints(
            Path(options["checkpoint_dir"]),
            options.get("max_recent_checkpoints"),
            str(self.directory),
            _seconds("TRAINER_SAVE_S"),
        )
        self.step, self.decay = 0, int(recipe.get("lr_scheduler", {}).get("lr_decay_steps") or self.max_steps)
        self.stopped = False
        self.writes = int(os.environ.get("RANK", "0")) == 0

    def resume(self) -> None:
        """Continue from the newest complete checkpoint, when there is one."""
        if newest := self.files.latest():
            state = self.files.load(newest, self.pairs)
            self.step, self.decay = state["step"], state["lr_decay_steps"]
            log.info("Loading checkpoint from %s", newest)

    def run(self) -> None:
        """Train to the last step, or until SIGTERM has made a step the last one."""
        metrics = (
            Metrics(self.files.root / "training.jsonl", int(os.environ.get("TRAINER_BUFFER", "100")))
            if self.writes
            else None
        )
        while self.step < self.end and not self.stopped:
            figures = self.train_step()
            if metrics:
                metrics.log(step=self.step, epoch=self.epoch, timestamp=_now(), **figures)
                _stamp("metrics", self.step)
            self.say(figures)
            if self.writes and self.saves_here():
                self.save(figures["loss"])
            _die_here(self.step)
            self.step += 1
        if metrics:
            metrics.close()
        if self.stopped:
            log.info("stopped by SIGTERM after step %d of %d", self.step - 1, self.end)

    @property
    def epoch(self) -> int:
        """0-based epoch of the next step."""
        return self.step // self.epoch_len if "dataset" in self.recipe else 0

    def saves_here(self) -> bool:
        """Whether a checkpoint follows this step."""
        ends_epoch = self.epoch_saves and self.step % self.epoch_len == self.epoch_len - 1
        return self.step % self.every == self.every - 1 or ends_epoch or self.step + 1 >= self.end or self.stopped

    def train_step(self) -> dict[str, float]:
        """One optimizer step; its figures under upstream's names."""
        began = time.monotonic()
        order = np.random.default_rng([int(self.recipe.get("seed", 42)), self.epoch]).permutation(len(self.train))
        at = (self.step % self.epoch_len) * self.batch
        batch = [self.train[i % len(order)] for i in order[at : at + self.batch]]
        loss, grads = self.pairs.gradients(batch)
        norm = self.pairs.step(grads, self.lr(), float(self.recipe.get("clip_grad_norm", {}).get("max_norm", 1.0)))
        time.sleep(_seconds("TRAINER_STEP_S"))
        tokens, seconds = sum(len(t) for t, _ in batch), time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        return {
            "loss": loss,
            "grad_norm": norm,
            "lr": self.lr(),
            "mem": memory,
            "tps": tokens / seconds,
            "tps_per_gpu": tokens / seconds,
            "mfu": 0.0,
            "num_tokens_per_step": tokens,
            "num_label_tokens": int(sum(m.sum() for _, m in batch)),
        }

    def lr(self) -> float:
        """Linear warmup, then cosine from `optimizer.lr` to `min_lr` over the steps of the full run."""
        plan, top = self.recipe.get("lr_scheduler", {}), float(self.recipe.get("optimizer", {}).get("lr", 1e-4))
        warm, low = int(plan.get("lr_warmup_steps") or 0), float(plan.get("min_lr") or 0.0)
        if self.step < warm:
            return top * (self.step + 1) / (warm + 1)
        part = min(1.0, (self.step - warm) / max(1, self.decay - warm))
        return low + 0.5 * (top - low) * (1 + math.cos(math.pi * part))

    def say(self, f: dict[str, float]) -> None:
        """Log a step's line in upstream's format."""
        log.info(
            "step %d | epoch %d | loss %.4f | grad_norm %.4f | lr %.2e | mem %.2f GiB | tps %.2f(%.2f/gpu) | "
            "num_label_tokens %d",
            self.step,
            self.epoch,
            f["loss"],
            f["grad_norm"],
            f["lr"],
            f["mem"],
            f["tps"],
            f["tps_per_gpu"],
            f["num_label_tokens"],
        )

    def save(self, loss: float) -> None:
        """Write a checkpoint, with a validation loss where the recipe validates."""
        losses = {"train_loss": loss}
        if self.validation and self.validates and not self.stopped:
            losses["val_loss"] = self.pairs.gradients(self.validation)[0]
        state = {"step": min(self.max_steps, self.step + 1), "epoch": self.epoch, "lr_decay_steps": self.decay}
        log.info("Saving checkpoint to %s", self.files.root / f"epoch_{self.epoch}_step_{self.step}")
        _stamp("checkpoint begins", self.step)
        self.files.save(self.epoch, self.step, self.pairs, state, self.recipe, losses)
        _stamp("checkpoint", self.step)

    def stop(self, *_: object) -> None:
        """SIGTERM: the step that runs is the last one."""
        self.stopped = True


def _samples(section: dict[str, Any] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    if not section:
        return []
    return read_labelled(section["folder"]) if "folder" in section else read_samples(section["path_or_dataset_id"])


def _seconds(name: str) -> float:
    return float(os.environ.get(name, "0"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(what: str, step: int) -> None:
    if file := os.environ.get("TRAINER_STAMPS"):
        line = {
            "token": os.environ.get("TRAINER_TOKEN", ""),
            "pid": os.getpid(),
            "time": time.time(),
            "what": what,
            "step": step,
        }
        with Path(file).open("a") as f:
            f.write(json.dumps(line) + "\n")


def _die_here(step: int) -> None:
    at, _, code = os.environ.get("TRAINER_DIE", "-1:0").partition(":")
    if step == int(at):
        log.error("told to die after step %d with %s", step, code)
        if int(code) < 0:
            os.kill(os.getpid(), -int(code))
        os._exit(int(code))


def main() -> int:
    """Train as the recipe of the command line says; returns the exit code."""
    parser = argparse.ArgumentParser("automodel")
    parser.add_argument("config", type=Path)
    parser.add_argument("--nproc-per-node", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(
        format="%(asctime)s | %(levelname)s | %(name)s | %(message)s", datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO
    )
    recipe = yaml.safe_load(given.config.read_text())
    if "recipe" not in recipe:
        log.error("YAML config must specify a recipe target.")
        return 1
    log.info("Config: %s", given.config.resolve())
    training = Training(recipe)
    signal.signal(signal.SIGTERM, training.stop)
    training.resume()
    training.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
