"""Stage `train_cpu`: base + data -> PEFT adapter. `backend: cpu` is the embedded trainer: QLoRA (NF4 base) or LoRA,
fp32 compute; `sft` trains every weight of a model that is small enough, and leaves those.

Only the upper layers are adapted; the lower ones need no gradient, so autograd starts at the first adapted layer. The
loss is computed on completion tokens only, before the language-model head, which keeps the vocabulary-sized logits
small.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from slipway.config.train import TrainConfig
from slipway.data.rows import read_rows
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Adapter, Checkpoint, Dataset

if TYPE_CHECKING:
    from peft import PeftModel

    from slipway.config.load import Config
    from slipway.data.labels import LabelledRow
    from slipway.training.full_model import FullModel
    from slipway.training.loop import Loop

OUTPUT = Adapter
STOP_S = 120.0  # a step, whose length depends on model and processors, and the save after it


def params_of(config: Config) -> TrainConfig:
    """This stage's params in a run."""
    return config.train


def train_cpu(base: Checkpoint, data: Dataset, params: TrainConfig, space: Workspace) -> None:
    """Write a PEFT adapter directory, or the weights of full fine-tuning; `training.jsonl` (one line an optimizer step)
    and `summary.json`.

    Resumes from the last complete checkpoint in `space.work`; the result equals an uninterrupted run's, bit for bit. On
    SIGTERM it saves the step that it is at and ends as a process does that the signal ended.
    """
    import torch

    from slipway.data.labels import learnable_rows
    from slipway.data.tokens import chat_template
    from slipway.system.termination import EXIT_CODE, sigterm_noted
    from slipway.training.loop import Checkpoints, Loop, Schedule

    torch.set_num_threads(params.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(params.seed)
    template = chat_template(base.path)
    sources = (read_rows(data.path / f"{name}.jsonl", empty_ok=True) for name in ("train", "val"))
    rows, held_out = (learnable_rows(source, template, params.learn, params.pack_length) for source in sources)
    schedule = Schedule.plan(rows, params)
    space.progress.note(
        f"{len(rows)} rows, {schedule.tokens} tokens a run, {schedule.packed} of them computed: rows of a pack share "
        f"what they begin with; {schedule.steps} steps, {params.method}"
    )
    model: Any = _load(base, params)
    loop = Loop(model, rows, schedule, params, pad=template.tokenizer.pad_token_id or 0)
    started = time.monotonic()
    with sigterm_noted() as stop_requested:
        if not loop.run(
            Checkpoints(space.work / "checkpoints", params.keep_checkpoints), space.progress, stop_requested
        ):
            raise SystemExit(EXIT_CODE)
    seconds = time.monotonic() - started
    _summarise(model, loop, held_out, space, seconds)  # before weights are rounded to be saved
    _save(model, loop, base, space)


def _load(base: Checkpoint, params: TrainConfig) -> PeftModel | FullModel:
    """The model with what is trained of it. Raises ResourceError when full fine-tuning does not fit into memory."""
    import psutil

    from slipway.training.full_model import load_full, require_memory
    from slipway.training.lora_model import load_model
    from slipway.weights.checkpoint import open_checkpoint

    if params.method != "sft":
        return load_model(str(base.path), params)
    weights = open_checkpoint(base)
    require_memory(sum(weights.info(name).numel for name in weights.names()), psutil.virtual_memory().available)
    return load_full(str(base.path), params)


def _save(model: PeftModel | FullModel, loop: Loop, base: Checkpoint, space: Workspace) -> None:
    """The adapter's files; its base is named by digest, as PEFT would write a path of this store, which may move. Of
    full fine-tuning the weights."""
    from slipway.training.full_model import FullModel
    from slipway.weights.adapter_check import name_base
    from slipway.weights.adapter_config import CONFIG

    if isinstance(model, FullModel):
        model.save(space.out)
    else:
        model.save_pretrained(str(space.out), save_embedding_layers=False)
        (space.out / "README.md").unlink(missing_ok=True)
        name_base(space.out / CONFIG, f"sha256:{base.digest}")
    (space.out / "training.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in loop.history), encoding="utf-8"
    )


def _summarise(
    model: PeftModel | FullModel, loop: Loop, held_out: list[LabelledRow], space: Workspace, seconds: float
) -> None:
    from slipway.training.loop import mean_loss

    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    summary: dict[str, Any] = {
        "steps": loop.schedule.steps,
        "tokens": loop.schedule.tokens,
        "packed_tokens": loop.schedule.packed,
        "train_loss": loop.history[-1]["loss"],
        "val_loss": mean_loss(model, held_out, loop.params.pack_length, loop.pad) if held_out else None,
        "trainable_parameters": trainable,
        "seconds": round(seconds, 1),
        "tokens_per_s": round(loop.tokens_per_s, 1),
    }
    (space.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
