"""The model that the embedded trainer trains: a frozen base with fresh LoRA modules on its upper layers."""

from __future__ import annotations

import psutil
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.dropout import seed_dropouts
from slipway.training.nf4_values import hold_values


def load_model(directory: str, params: TrainConfig) -> PeftModel:
    """The base with fresh LoRA modules on its upper layers: NF4 weights for QLoRA, held in fp32 where memory has room,
    fp32 for LoRA; fp32 compute."""
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
    if params.method == "qlora":
        hold_values(model, psutil.virtual_memory().available)
    if params.activation_checkpointing == "full":
        model.activation_checkpointing_enable({"use_reentrant": False})
    adapted = get_peft_model(model, lora_config(params, layers))
    seed_dropouts(adapted)
    return adapted


def lora_config(params: TrainConfig, layers: int) -> LoraConfig:
    """PEFT's config for `params.upper_layers` of a model with `layers` decoder layers."""
    first = layers - params.upper_layers
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=params.targets,
        layers_to_transform=list(range(first, layers)) if first else None,
        layers_pattern="layers" if first else None,
    )
