"""Adapters made and saved by PEFT itself on the tiny models of `families`, with values that matter."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.pytorch_utils import Conv1D

from tests.support.families import family_config, load_family, model_class

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


def every_linear(name: str) -> list[str]:
    """Names of all modules of a family that PEFT puts a pair on, by the end of their path: Linear and Conv1D in the
    language model and its towers, the head, embeddings and routers. Tied vocabularies are left out: PEFT's merge adds a
    pair on one of them to both."""
    config = family_config(name)
    with torch.device("meta"):
        model = model_class(name).from_config(config)
    kinds: tuple[type, ...] = (torch.nn.Linear, Conv1D, torch.nn.Embedding)
    left_out = {model.get_input_embeddings(), model.get_output_embeddings()} if config.tie_word_embeddings else set()
    modules = {path for path, module in model.named_modules() if isinstance(module, kinds) and module not in left_out}
    return sorted({".".join(path.split(".")[-2:]) for path in modules})


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
