"""Tiny random models of the families that people bring: made, drawn and saved by transformers, in milliseconds.

Every directory has a tokenizer (that of `pico`) and what `save_pretrained` writes for the class: names and shapes of
tensors are those of published checkpoints. Sizes are multiples of 32, so that every format's blocks fit.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from tests.support.pico import write_tokenizer

VOCABULARY = 384  # of the tokenizer of `pico`
LAYERS = 2
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_ALTERNATING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_GEMMA = {**_ALTERNATING, "query_pre_attn_scalar": 32, "tie_word_embeddings": True}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1}
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}

# name -> keys over those above; `model_type` where it is not the name, `class` where it is not AutoModelForCausalLM
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama_tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gemma2": {**_GEMMA, "final_logit_softcapping": 3.0},
    "gemma3_text": _GEMMA,
    "mistral": {"sliding_window": 8},
    "mixtral": {**_EXPERTS, "sliding_window": None},
    "phi3": {"head_dim": 16},
    "gpt_oss": {
        **_ALTERNATING,
        **_EXPERTS,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": 64,
            "truncate": False,
        },
    },
    "glm4_moe": {**_ROUTED, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "use_qk_norm": True},
    "deepseek_v3": {
        **_ROUTED,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_key_value_heads": 4,
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 32,
        "v_head_dim": 32,
    },
    "granitemoe": {**_EXPERTS, "head_dim": 16},
    "lfm2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "num_dense_layers": 1,
        "head_dim": 16,
        "layer_types": ["conv", "full_attention"],
        "tie_word_embeddings": True,
    },
    "gpt2": {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 256, "tie_word_embeddings": True},
    "qwen2_5_vl": {
        "class": "AutoModelForImageTextToText",
        "text_config": {
            **_COMMON,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 4,
            "fullatt_block_indexes": [0],
        },
        **{f"{name}_token_id": i for i, name in enumerate(("image", "video", "vision_start", "vision_end"), 370)},
    },
    "gemma3": {
        "class": "AutoModelForImageTextToText",
        "text_config": {**_COMMON, **_GEMMA},
        "vision_config": {**_VISION, "image_size": 16, "patch_size": 4},
        "mm_tokens_per_image": 4,
        "image_token_index": 370,
        "boi_token_index": 371,
        "eoi_token_index": 372,
        "tie_word_embeddings": True,
    },
    "idefics3": {
        "class": "AutoModelForImageTextToText",
        "text_config": {**_COMMON, "model_type": "llama", "head_dim": 16},
        "vision_config": {**_VISION, "image_size": 16, "patch_size": 4},
        "scale_factor": 2,
        "image_token_id": 370,
        "tie_word_embeddings": False,
    },
}
DECODERS = tuple(name for name, keys in FAMILIES.items() if "class" not in keys)
VISION_LANGUAGE = tuple(name for name, keys in FAMILIES.items() if "class" in keys)


def model_class(name: str) -> Any:
    """The class of transformers that makes and loads the family."""
    return getattr(transformers, FAMILIES[name].get("class", "AutoModelForCausalLM"))


def family_config(name: str, **keys: Any) -> Any:
    """The configuration of the family's tiny model, an object of transformers; `keys` take the place of its own."""
    own = {key: value for key, value in {**FAMILIES[name], **keys}.items() if key != "class"}
    common = {key: _COMMON[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if name in DECODERS:
        common = _COMMON
    return AutoConfig.for_model(**{"model_type": name, **common, **own})


def random_model(name: str, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **keys: Any) -> Any:
    """A model of the family with weights large enough that every bias, norm and router matters to its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(name).from_config(family_config(name, **keys), dtype=dtype)
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                spread = 0.2 if "norm" in path or path.endswith(("bias", "sinks")) else parameter.shape[-1] ** -0.5
                parameter.add_(torch.randn(parameter.shape) * spread)
    return model.eval()


def write_family(name: str, out: Path, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16, **keys: Any) -> Path:
    """Write a model of the family with its tokenizer, as transformers saves it, and return its directory. `keys` take
    the place of the family's in the config."""
    random_model(name, seed=seed, dtype=dtype, **keys).save_pretrained(out)
    write_tokenizer(out)
    return out


def load_family(name: str, directory: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a directory of the family as transformers loads it, refusing tensors without a place and parameters
    without a value."""
    model, info = model_class(name).from_pretrained(directory, dtype=dtype, output_loading_info=True)
    assert {kind: list(names) for kind, names in info.items() if names} == {}
    return model.eval()


@functools.cache
def tokens(rows: int = 2, length: int = 12) -> torch.Tensor:
    """Token ids int64 [rows, length], none of them special to a family."""
    return torch.randint(8, 360, (rows, length), generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """fp32 logits [rows, length, vocabulary] of `tokens`."""
    return model(tokens().clone()).logits.float()
