"""The whole model, trained: full fine-tuning by the embedded trainer, for models that fit into memory five times over.

Bytes a parameter: fp32 weight 4, gradient 4 and that of the next micro-batch 4, AdamW's two moments 8. Activations come
on top and are small beside them at the sizes that a CPU trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from slipway.config.train import TrainConfig
from slipway.errors import ResourceError

BYTES_PER_PARAMETER = 20
ROOM = 0.8  # of the free memory: the rest is for activations and everything else


class FullModel(torch.nn.Module):
    """A causal language model of which every weight is trained, with the accessor by which the loop asks for it."""

    def __init__(self, causal: Any) -> None:
        super().__init__()
        self.causal = causal

    def get_base_model(self) -> Any:
        """The transformers model."""
        return self.causal

    def save(self, out: Path) -> None:
        """Write the weights to `out`: safetensors in bf16, under the names that the base's files have."""
        self.causal.to(torch.bfloat16).save_pretrained(str(out))
        for name in ("config.json", "generation_config.json"):  # the base's are used
            (out / name).unlink(missing_ok=True)


def load_full(directory: str, params: TrainConfig) -> FullModel:
    """The model in fp32 with every weight trained."""
    causal = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa", device_map={"": "cpu"}
    )
    if params.activation_checkpointing == "full":
        causal.activation_checkpointing_enable({"use_reentrant": False})
    return FullModel(causal.requires_grad_(True))


def require_memory(parameters: int, free: float) -> None:
    """Raise ResourceError unless training all of so many parameters fits into `free` bytes of memory."""
    needed = BYTES_PER_PARAMETER * parameters
    if needed > ROOM * free:
        raise ResourceError(
            "memory for train.method=sft on the CPU",
            f"{needed / 1e9:.1f} GB for {parameters / 1e9:.3g}B parameters at {BYTES_PER_PARAMETER} bytes",
            f"at most {ROOM * free / 1e9:.1f} GB, {ROOM:.0%} of what is free",
            "use train.method=qlora or lora, or a smaller model",
        )
