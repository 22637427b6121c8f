"""The optimizer loop of the embedded trainer: schedule, steps, checkpoints, resume.

Loss of a step = sum of completion-token cross entropies / completion tokens of the step, over all its micro-batches:
the same value however the step is cut. Learning rate: linear warm-up, then cosine to zero (SGDR without restarts,
arXiv:1608.03983).
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn.functional import cross_entropy

from slipway.config.train import TrainConfig
from slipway.data.labels import LabelledRow
from slipway.errors import ConfigError, DataError
from slipway.system.files import fsync_tree, write_atomic
from slipway.system.progress import Progress
from slipway.training.lanes import Lanes
from slipway.training.packing import IGNORE, Batch, collate, pack, packed_tokens, split_pack


@dataclass(frozen=True)
class Schedule:
    """Which rows each optimizer step sees: `micros[step][micro][pack]` is a list of row indices, `tokens` their tokens
    over the whole run, `packed` those that are computed, as what a pack's rows begin with is computed once. A
    micro-batch is what one lane computes: `train.lanes` of them are one of `micro_batch` packs. A pure function of
    rows, params and seed, so a resumed run continues the same schedule."""

    micros: list[list[list[list[int]]]]
    tokens: int
    packed: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return len(self.micros)

    @staticmethod
    def packs(rows: Sequence[LabelledRow], params: TrainConfig) -> list[list[int]]:
        """All packs of all epochs, in order; a fractional last epoch takes the first packs of one more shuffle."""
        packs: list[list[int]] = []
        for epoch in range(math.ceil(params.epochs)):
            # Every epoch shuffles and packs anew: with one packing for all, the same documents would always share a
            # step
            epoch_packs = pack(rows, params.pack_length, params.seed + epoch)
            share = min(1.0, params.epochs - epoch)
            packs += epoch_packs[: max(1, round(share * len(epoch_packs)))]
        return packs

    @classmethod
    def plan(cls, rows: Sequence[LabelledRow], params: TrainConfig) -> Schedule:
        """The schedule of a whole run, cut at `train.max_steps`. Raises DataError for no rows, ConfigError when
        `max_steps` is more than the epochs hold."""
        if not rows:
            raise DataError("training split", "0 rows", "at least one row", "check data.raw and the split fractions")
        packs = cls.packs(rows, params)
        micros = [packs[i : i + params.micro_batch] for i in range(0, len(packs), params.micro_batch)]
        steps = [micros[i : i + params.accumulate] for i in range(0, len(micros), params.accumulate)]
        lanes = 1 if params.method == "sft" else params.lanes  # gradients of all weights take too much to have two
        steps = [[part for micro in step for part in _in_lanes(rows, micro, lanes)] for step in steps]
        if params.max_steps and params.max_steps > len(steps):
            raise ConfigError(
                "train.max_steps",
                params.max_steps,
                f"at most {len(steps)}, all that {params.epochs} epochs hold",
                "raise train.epochs",
            )
        steps = steps[: params.max_steps]
        documents = [[rows[i] for i in indices] for step in steps for micro in step for indices in micro]
        tokens = sum(len(row.tokens) for members in documents for row in members)
        return cls(steps, tokens, sum(map(packed_tokens, documents)))


def _in_lanes(rows: Sequence[LabelledRow], micro: list[list[int]], lanes: int) -> list[list[list[int]]]:
    """A micro-batch as `lanes` smaller ones: the first part of every pack, the second, and so on."""
    parts = [split_pack(rows, indices, lanes) for indices in micro]
    return [[part[lane] for part in parts if lane < len(part)] for lane in range(max(map(len, parts)))]


class Checkpoints:
    """`step_000050/` directories below `root`, the newest `keep` of them. Each is written under a temporary name,
    fsynced and renamed, so a directory with the final name is complete."""

    def __init__(self, root: Path, keep: int) -> None:
        self.root, self.keep = root, keep

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` optimizer steps, then remove checkpoints older than the newest `keep`."""
        tmp = self.root / f".tmp_{step}"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        torch.save(state, tmp / "state.pt")
        fsync_tree(tmp)
        tmp.rename(self.root / f"step_{step:06d}")
        write_atomic(self.root / "LATEST", f"step_{step:06d}\n")
        for old in self.complete()[: -self.keep]:
            shutil.rmtree(old)

    def complete(self) -> list[Path]:
        """Directories of complete checkpoints, oldest first."""
        return sorted(self.root.glob("step_*"))

    def latest(self) -> dict[str, Any] | None:
        """State of the newest complete checkpoint; None when there is none."""
        directories = self.complete()
        if not directories:
            return None
        state: dict[str, Any] = torch.load(directories[-1] / "state.pt", weights_only=True)
        return state


class Loop:
    """The optimizer loop: a PEFT model or a FullModel, AdamW over its trainable parameters, the position in the
    schedule.

    `rows` are what the schedule's indices point to; `pad` is the token id that fills packs up. `history` holds one
    entry a step: step, loss, lr, grad_norm, tokens, label_tokens, tokens_per_s.
    """

    def __init__(
        self, model: Any, rows: Sequence[LabelledRow], schedule: Schedule, params: TrainConfig, pad: int
    ) -> None:
        self.model, self.rows, self.schedule, self.params, self.pad = model, rows, schedule, params, pad
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=params.lr, weight_decay=params.weight_decay, fused=True)
        self.history: list[dict[str, float]] = []
        self.tokens_per_s = 0.0
        self.most = max(map(len, schedule.micros))  # micro-batches of a step

    def run(
        self, checkpoints: Checkpoints, progress: Progress, stop_requested: Callable[[], bool] = lambda: False
    ) -> bool:
        """Train to the last step, from the newest complete checkpoint when there is one; True when it got there.

        `stop_requested` is asked after each step whether to make room: then that step is saved, and the answer is
        False. Each call makes one step at least. Raises ConfigError when the loss of a step is not finite."""
        first = self._restore(checkpoints)
        if first:
            progress.note(f"resumed after step {first} of {self.schedule.steps}")
        self.model.train()
        with Lanes(1 if self.params.method == "sft" else self.most) as lanes:
            for step in range(first, self.schedule.steps):
                figures = self._step(step, lanes)
                self.history.append(figures)
                progress.metric(**figures)  # type: ignore[arg-type]
                progress.update(
                    "train", step + 1, self.schedule.steps, "step", loss=figures["loss"], tokens_per_s=self.tokens_per_s
                )
                stops = stop_requested()
                if stops or ((step + 1) % self.params.checkpoint_every == 0 and step + 1 < self.schedule.steps):
                    checkpoints.save(step + 1, self._state())
                if stops:
                    progress.note(f"told to end: saved after step {step + 1} of {self.schedule.steps}")
                    return False
        return True

    def _step(self, step: int, lanes: Lanes) -> dict[str, float]:
        started = time.monotonic()
        batches = [
            collate([[self.rows[i] for i in p] for p in micro], self.pad) for micro in self.schedule.micros[step]
        ]
        labels = sum(b.label_tokens for b in batches)
        rate = learning_rate(step, self.schedule.steps, self.params)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Divided by the whole step's label tokens, so that gradients add up to those of one large batch
        losses = [partial(_share_of_loss, self.model, batch, labels) for batch in batches]
        seed = (self.params.seed * self.schedule.steps + step) * self.most
        loss = lanes.gradients(losses, self.trainable, seed)
        norm = torch.nn.utils.clip_grad_norm_(self.trainable, self.params.grad_clip)
        # Before the optimizer moves: a checkpoint must never hold weights made from a loss that is not finite
        if not math.isfinite(loss):
            raise ConfigError(f"loss at step {step + 1}", loss, "a finite number", f"lower train.lr={self.params.lr}")
        self.optimizer.step()
        tokens, seconds = sum(b.tokens for b in batches), time.monotonic() - started
        # An exponential mean over about five steps: steps differ in padding and length
        self.tokens_per_s = 0.8 * self.tokens_per_s + 0.2 * tokens / seconds if self.tokens_per_s else tokens / seconds
        return {
            "step": step + 1,
            "loss": loss,
            "lr": rate,
            "grad_norm": float(norm),
            "tokens": tokens,
            "label_tokens": labels,
            "tokens_per_s": round(tokens / seconds, 1),
        }

    def _state(self) -> dict[str, Any]:
        return {
            "step": len(self.history),
            "adapter": trained_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "history": json.dumps(self.history),
        }

    def _restore(self, checkpoints: Checkpoints) -> int:
        state = checkpoints.latest()
        if state is None:
            return 0
        load_trained(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = json.loads(state["history"])
        return int(state["step"])


def trained_state(model: Any) -> dict[str, torch.Tensor]:
    """What is trained of a model, by name: the adapter, or every weight."""
    if isinstance(model, PeftModel):
        return dict(get_peft_model_state_dict(model, save_embedding_layers=False))
    return dict(model.state_dict())


def load_trained(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Put back what `trained_state` returned."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, state)
    else:
        model.load_state_dict(state)


def learning_rate(step: int, steps: int, params: TrainConfig) -> float:
    """Learning rate of 0-based `step` of `steps`: linear from 1/warmup_steps of the peak to the peak, then cosine to
    zero."""
    warmup = round(params.warmup * steps)
    if step < warmup:
        return params.lr * (step + 1) / warmup
    return params.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def summed_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Sum of cross entropies over the batch's completion tokens, fp32 scalar with gradient.

    The head multiplies only positions that have a label: logits of all positions, [B, T, vocabulary] in fp32, would be
    the largest tensor of the step by far, and most of it belongs to prompts.
    """
    causal = model.get_base_model()
    hidden = causal.get_decoder()(
        input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    labelled = batch.labels != IGNORE
    logits = causal.get_output_embeddings()(hidden[labelled])  # [completion tokens, vocabulary]
    return cross_entropy(logits.float(), batch.labels[labelled], reduction="sum")


def _share_of_loss(model: Any, batch: Batch, labels: int) -> torch.Tensor:
    return summed_loss(model, batch) / labels


@torch.no_grad()
def mean_loss(model: Any, rows: Sequence[LabelledRow], length: int, pad: int) -> float:
    """Cross entropy per completion token over `rows`, in packs of `length` tokens. Leaves the model in evaluation
    mode."""
    model.eval()
    batches = [collate([[rows[i] for i in p]], pad) for p in pack(rows, length, 0)]
    total = sum(summed_loss(model, b).item() for b in batches)
    return float(total / sum(b.label_tokens for b in batches))
