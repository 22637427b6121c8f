"""Fine-tune: base + data -> PEFT adapter. `backend: cpu` is the embedded trainer: QLoRA (NF4 base) or LoRA, fp32 compute.

Only the upper layers are adapted; the lower ones need no gradient, so autograd starts at the first adapted layer. The
loss is computed on completion tokens only, before the language-model head, which keeps the vocabulary-sized logits small.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from slipway.config.train import TrainConfig
from slipway.data.rows import read_rows
from slipway.errors import ConfigError
from slipway.pipeline.stage import Workspace
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from slipway.training.loop import Checkpoints, Loop, Schedule, mean_loss
from slipway.training.packing import Example, tokenize
from slipway.weights.checkpoint import model_dir

OUTPUT = Adapter


def train_cpu(base: Checkpoint, data: Dataset, params: TrainConfig, space: Workspace) -> None:
    """Write a PEFT adapter directory, `training.jsonl` (one line an optimizer step) and `summary.json`.

    Resumes from the last complete checkpoint in `space.work`; the result equals an uninterrupted run's, bit for bit.
    """
    torch.set_num_threads(params.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(params.seed)
    directory = str(model_dir(base))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = tokenize(read_rows(data.path / "train.jsonl"), tokenizer, params.pack_length)
    held_out = tokenize(read_rows(data.path / "val.jsonl"), tokenizer, params.pack_length)
    schedule = Schedule.plan(rows, params)
    space.progress.note(f"{len(rows)} rows, {schedule.tokens} tokens a run, {schedule.steps} steps, {params.method}")
    model = load_model(directory, params)
    loop = Loop(model, rows, schedule, params, pad=tokenizer.pad_token_id or 0)
    started = time.monotonic()
    loop.run(Checkpoints(space.work / "checkpoints", params.keep_checkpoints), space.progress)
    _save(model, loop, space)
    _summarise(model, loop, held_out, space, time.monotonic() - started)


def load_model(directory: str, params: TrainConfig) -> PeftModel:
    """The base with fresh LoRA modules on its upper layers: NF4 weights for QLoRA, fp32 for LoRA; fp32 compute."""
    layers = AutoConfig.from_pretrained(directory).num_hidden_layers
    if params.upper_layers > layers:
        raise ConfigError(
            "train.upper_layers",
            params.upper_layers,
            f"at most the model's {layers} layers",
            "lower train.upper_layers",
        )
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="sdpa",
        device_map={"": "cpu"},
        quantization_config=nf4 if params.method == "qlora" else None,
    )
    model.requires_grad_(False)
    if params.activation_checkpointing == "full":
        model.activation_checkpointing_enable({"use_reentrant": False})
    return get_peft_model(model, lora_config(params, layers))


def lora_config(params: TrainConfig, layers: int) -> LoraConfig:
    first = layers - params.upper_layers
    return LoraConfig(
        task_type="CAUSAL_LM", r=params.rank, lora_alpha=params.alpha, lora_dropout=params.dropout, target_modules=params.targets,
        layers_to_transform=list(range(first, layers)) if first else None, layers_pattern="layers" if first else None,
    )  # fmt: skip


def _save(model: PeftModel, loop: Loop, space: Workspace) -> None:
    model.save_pretrained(str(space.out), save_embedding_layers=False)
    (space.out / "README.md").unlink(missing_ok=True)
    (space.out / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in loop.history))


def _summarise(model: PeftModel, loop: Loop, held_out: list[Example], space: Workspace, seconds: float) -> None:
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    summary: dict[str, Any] = {
        "steps": loop.schedule.steps,
        "tokens": loop.schedule.tokens,
        "train_loss": loop.history[-1]["loss"],
        "val_loss": mean_loss(model, held_out, loop.params.pack_length, loop.pad) if held_out else None,
        "trainable_parameters": trainable,
        "seconds": round(seconds, 1),
        "tokens_per_s": round(loop.tokens_per_s, 1),
    }
    (space.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
