"""What a backward pass of NeMo's may recompute, by the fine-tuning method.

`selective` keeps the results of attention and matmuls and recomputes the rest. NeMo's LoRA overwrites one of those in
place, and PyTorch stops at the first step; seen with three models on a GPU, nemo-automodel 0.7.0. With NF4 weights and
with full fine-tuning it runs.

Short because the rules, their advice and the throughput search share this one fact.
"""

from __future__ import annotations

from slipway.config.train import TrainConfig
from slipway.errors import ConfigError


def recomputations(method: str) -> tuple[str, ...]:
    """Values of `train.activation_checkpointing` that run with a `train.method`, from the fastest to the one that takes
    least memory."""
    return ("none", "full") if method == "lora" else ("none", "selective", "full")


def check_recomputation(params: TrainConfig) -> None:
    """Raise ConfigError for a recomputation that NeMo does not run with the recipe's method."""
    if params.activation_checkpointing not in recomputations(params.method):
        raise ConfigError(
            "train.activation_checkpointing",
            f"{params.activation_checkpointing} with method={params.method}",
            'full or none: NeMo\'s LoRA stops at the first step ("Tensor cached during ... has been mutated")',
            "set train.activation_checkpointing=full, or train.method=qlora",
        )
