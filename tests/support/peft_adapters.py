"""Adapters made and saved by PEFT itself on the tiny models of `families`, with values that matter."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.support.families import load_family

RANK, ALPHA = 4, 8


def write_adapter(
    name: str, base: Path, out: Path, *, seed: int = 5, resized: int | None = None, **config: Any
) -> torch.nn.Module:
    """Let PEFT put an adapter on the base of a family, give each of its parameters random values, and save it.

    Returns the adapted model, fp32, in evaluation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_family(name, base)
        if resized:
            model.resize_token_embeddings(resized, mean_resizing=False)
        model.config._name_or_path = str(base)
        peft = get_peft_model(model, LoraConfig(**{"r": RANK, "lora_alpha": ALPHA, **config}))
        peft.peft_config["default"].base_model_name_or_path = str(base)
        draw(peft, seed)
        peft.save_pretrained(out)
    return peft.eval()


def draw(model: torch.nn.Module, seed: int = 5) -> None:
    """Give the trainable parameters of a model random values."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                spread = 0.3 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.1
                parameter.add_(torch.randn(parameter.shape, generator=random) * spread)


def adapted(name: str, base: Path, adapter: Path) -> Any:
    """The base with the adapter as PEFT loads it, unmerged, fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(load_family(name, base), adapter).eval()


def edit_config(adapter: Path, **keys: Any) -> None:
    """Change keys of adapter_config.json."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
