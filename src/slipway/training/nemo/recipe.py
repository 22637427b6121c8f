"""The NeMo AutoModel 0.7.0 recipe of a model, a train row and a target, as data.

Every value that upstream defaults badly is written out: epochs (upstream 10), time-out (1 minute), checkpoints kept
(all), packing (`thd`, which leaks across documents in some settings), long samples (dropped without a word by `neat`).
The seed stands at the top, where the recipe reads it; upstream's examples write `rng.seed`, which nothing reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError

Doc = dict[str, Any]
VERSION = "nemo-automodel 0.7.0"
LOSSES: dict[str, Doc] = {
    "masked": {"_target_": "nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy"},
    "fused_linear": {"_target_": "nemo_automodel.components.loss.linear_ce.FusedLinearCrossEntropy"},
    "chunked": {"_target_": "nemo_automodel.components.loss.chunked_ce.ChunkedCrossEntropy"},
}
READER = "LabelledRows"  # of `labelled_rows`, which is copied into the job
CHECKPOINTING: dict[str, bool | str] = {"none": False, "selective": "selective", "full": True}


@dataclass(frozen=True)
class RecipePaths:
    """Model directory, data files and checkpoint directory, as the job sees them. `validation` is None where there is
    none. With `reader`, the file of `labelled_rows`, data are folders that it reads; without, chat JSONL files."""

    model: str
    train: str
    validation: str | None
    checkpoints: str
    reader: str | None = None


def container_paths(name: str) -> RecipePaths:
    """Where a container finds the model called `name`, the data and the checkpoints."""
    return RecipePaths(f"/models/{name}", "/data/train.jsonl", "/data/val.jsonl", "/ckpt")


def render(
    model: ModelConfig, params: TrainConfig, target: TargetConfig, paths: RecipePaths, *, steps: int | None
) -> Doc:
    """The recipe as nested mappings, in upstream's order of sections.

    `steps`: optimizer steps of the whole run, counted on the data; None leaves the end to epochs or `train.max_steps`
    and the warm-up to NeMo. Raises ConfigError for a fraction of an epoch without counted steps.
    """
    adapter = params.method != "sft"
    return {
        "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
        "seed": params.seed,
        "step_scheduler": _schedule(params, steps or params.max_steps),
        "dist_env": {"backend": "nccl" if target.gpus else "gloo", "timeout_minutes": params.timeout_minutes},
        "model": _model(model, params, paths),
        **({"peft": _peft(params)} if adapter else {}),
        **({"quantization": _nf4()} if params.method == "qlora" else {}),
        "distributed": _distributed(params),
        "loss_fn": dict(LOSSES[params.loss]),
        "dataset": _data(params, paths.train, paths.reader),
        **({"validation_dataset": _data(params, paths.validation, paths.reader)} if paths.validation else {}),
        **({"packed_sequence": _packing(params)} if params.packing != "none" else {}),
        "dataloader": {**_loader(), "shuffle": True, "num_workers": 0},
        **({"validation_dataloader": _loader()} if paths.validation else {}),
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "lr": params.lr,
            "betas": [0.9, 0.999],
            "eps": 1.0e-8,
            "weight_decay": params.weight_decay,
        },
        "lr_scheduler": _rates(params, steps or params.max_steps),
        "clip_grad_norm": {"max_norm": params.grad_clip},
        "checkpoint": _checkpoint(params, paths, adapter),
    }


def to_yaml(recipe: Doc) -> str:
    """The recipe as YAML in reading order, under a header that says what it is."""
    counted = "max_steps" in recipe["step_scheduler"]
    note = (
        ""
        if counted
        else "# Steps and warm-up are filled in when the data have been counted; as it stands, epochs end the run.\n"
    )
    header = f"# Fine-tuning recipe for {VERSION}, rendered by slipway: automodel RECIPE --nproc-per-node GPUS\n{note}"
    body: str = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=False, width=140)
    return header + body


def _schedule(params: TrainConfig, steps: int | None) -> Doc:
    if steps is None and params.epochs != int(params.epochs):
        raise ConfigError(
            "train.epochs",
            params.epochs,
            "whole epochs while the steps of the data are not counted",
            "set train.max_steps, or a whole number of epochs",
        )
    return {
        "global_batch_size": params.global_batch,
        "local_batch_size": params.micro_batch,
        "num_epochs": math.ceil(params.epochs),
        **({"max_steps": steps} if steps else {}),
        "ckpt_every_steps": params.checkpoint_every,
        "save_checkpoint_every_epoch": True,
        **({"val_every_steps": params.validate_every} if params.validate_every else {}),
        "validate_on_checkpoint": True,
        "log_remote_every_steps": 1,
        "preemption_signal": "SIGTERM",
    }


def _model(model: ModelConfig, params: TrainConfig, paths: RecipePaths) -> Doc:
    """NeMo has model code of its own for mixtures of experts, whose attention is Transformer Engine's where that is
    installed; that one takes no packed mask, so the choice is written out."""
    backend = {
        "_target_": "nemo_automodel.components.models.common.BackendConfig",
        "attn": params.attention,
        "linear": "torch",
    }
    return {
        "_target_": "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained",
        "pretrained_model_name_or_path": paths.model,
        "torch_dtype": "bfloat16",
        "attn_implementation": params.attention,
        **({"backend": backend} if model.experts else {}),
    }


def _peft(params: TrainConfig) -> Doc:
    """NeMo matches a pattern against the whole module name: a bare `q_proj` would adapt nothing."""
    return {
        "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
        "target_modules": [name if "*" in name else f"*.{name}" for name in params.targets],
        "dim": params.rank,
        "alpha": int(params.alpha) if params.alpha == int(params.alpha) else params.alpha,
        "dropout": params.dropout,
        "use_triton": False,  # bitsandbytes layers do not take that path, and its autotuning took 10 s a step
    }


def _nf4() -> Doc:
    return {
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_quant_storage": "bfloat16",  # FSDP2 shards only tensors of one dtype
    }


def _distributed(params: TrainConfig) -> Doc:
    recompute = {"activation_checkpointing": CHECKPOINTING[params.activation_checkpointing]}
    if params.strategy == "ddp":
        return {"strategy": "ddp", **recompute, "find_unused_parameters": False}
    return {
        "strategy": "fsdp2",
        "dp_size": None,
        "tp_size": params.tensor_parallel,
        "cp_size": params.context_parallel,
        "pp_size": params.pipeline_parallel,
        "ep_size": params.expert_parallel,
        "sequence_parallel": params.sequence_parallel,
        **recompute,
        **({"pipeline": {"pp_schedule": "1f1b", "pp_microbatch_size": 1}} if params.pipeline_parallel > 1 else {}),
    }


def _data(params: TrainConfig, path: str, reader: str | None) -> Doc:
    """Rows labelled already, where Slipway runs the job. For a recipe that is run by hand upstream's own dataset comes
    nearest: without its two masks it would train on earlier answers and on the role header, which the template writes.
    """
    if reader:
        return {"_target_": f"{reader}:{READER}", "folder": path}
    return {
        "_target_": "nemo_automodel.components.datasets.llm.ChatDataset",
        "path_or_dataset_id": path,
        "seq_length": params.pack_length,
        "truncation": params.truncate,
        "mask_generation_prompt": True,
        "mask_history": params.learn == "last",
    }


def _packing(params: TrainConfig) -> Doc:
    neat = {"drop_long_samples": False} if params.packing == "neat" else {}
    return {"packed_sequence_size": params.pack_length, "packing_strategy": params.packing, **neat}


def _loader() -> Doc:
    return {
        "_target_": "torchdata.stateful_dataloader.StatefulDataLoader",
        "collate_fn": "nemo_automodel.components.datasets.utils.default_collater",
    }


def _rates(params: TrainConfig, steps: int | None) -> Doc:
    """Linear warm-up from a tenth of the peak, then cosine to a hundredth. The end is the full run's: a resumed part
    keeps it."""
    counted = {"lr_warmup_steps": round(params.warmup * steps), "lr_decay_steps": steps} if steps else {}
    return {"lr_decay_style": "cosine", **counted, "min_lr": float(f"{params.lr / 100:.6g}")}


def _checkpoint(params: TrainConfig, paths: RecipePaths, adapter: bool) -> Doc:
    return {
        "enabled": True,
        "checkpoint_dir": paths.checkpoints,
        "model_save_format": "safetensors",
        "save_consolidated": False if adapter else "final",
        "is_async": False,
        "max_recent_checkpoints": params.keep_checkpoints,
        "best_metric_key": "default",
    }
