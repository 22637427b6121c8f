"""Tiny models of the decoder families that a calibration must walk: three layers, made by transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 96
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_ALTERNATING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {
        **_ALTERNATING,
        "query_pre_attn_scalar": 16,
        "tie_word_embeddings": True,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {**_ALTERNATING, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
    "phi3": {"head_dim": 8},
    "phi3_long": {
        "model_type": "phi3",
        "head_dim": 8,
        "original_max_position_embeddings": 16,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": 16,
        },
    },
    "mixtral": {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2_moe": {
        "head_dim": 8,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 32,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt_oss": {
        **_ALTERNATING,
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": 32,
            "truncate": False,
        },
    },
    "llama4_text": {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 32},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4},
}


OTHERS: dict[str, dict[str, Any]] = {"apertus": {}, "rwkv": {"attention_hidden_size": 32}}  # for a test of their own


def family(name: str, out: Path, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write a model of the family, with weights large enough that every bias, norm and router matters, and return its
    directory."""
    config = AutoConfig.for_model(**{"model_type": name, **_COMMON, **{**FAMILIES, **OTHERS}[name]})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                spread = 0.2 if "norm" in path or path.endswith(("bias", "sinks")) else parameter.shape[-1] ** -0.5
                parameter.add_(torch.randn(parameter.shape) * spread)
    model.save_pretrained(out)
    return out
