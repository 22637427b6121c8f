"""A pico Llama on disk, made in milliseconds: the model that every test room uses.

Written with the safetensors library, not with Slipway's own writer. Its tokenizer is one token per character with byte
fallback, in Llama's own shape: no merges, so that Hugging Face and llama.cpp cut any text alike, and llama.cpp's
converter takes it without knowing its hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 64, 128, 4, 4, 2
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_SPECIAL = ("<unk>", "<|im_start|>", "<|im_end|>")
_CHARACTERS = ["▁", "\n", *(chr(c) for c in range(0x21, 0x7F))]
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def pico_model(
    out: Path,
    *,
    seed: int = 0,
    shards: int = 1,
    tied: bool = True,
    dtype: torch.dtype = torch.bfloat16,
    layers: int = LAYERS,
) -> Path:
    """Write a complete HF model directory to `out` (made when absent) and return it."""
    out.mkdir(parents=True, exist_ok=True)
    vocab = write_tokenizer(out)
    config = pico_config(vocab, tied=tied, layers=layers)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}) + "\n"
    )
    _save(
        out,
        {name: tensor.to(dtype) for name, tensor in pico_tensors(vocab, seed=seed, tied=tied, layers=layers).items()},
        shards,
    )
    return out


def pico_config(vocab: int, *, tied: bool = True, layers: int = LAYERS) -> dict[str, Any]:
    """config.json of the pico Llama with `vocab` tokens."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def pico_shapes(vocab: int, *, tied: bool = True, layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    """Every tensor of the pico Llama by name."""
    kv = HIDDEN * KV_HEADS // HEADS
    linear = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.{name}.weight": shape for name, shape in linear.items()}
        shapes |= {f"{prefix}.{name}.weight": (HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")}
    return shapes if tied else shapes | {"lm_head.weight": (vocab, HIDDEN)}


def pico_tensors(vocab: int, *, seed: int = 0, tied: bool = True, layers: int = LAYERS) -> dict[str, torch.Tensor]:
    """Its fp32 weights, drawn from `seed`, under Hugging Face's names."""
    random = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return 1 + 0.1 * torch.randn(shape, generator=random)
        return torch.randn(shape, generator=random) / math.sqrt(shape[1])

    return {name: draw(shape) for name, shape in pico_shapes(vocab, tied=tied, layers=layers).items()}


def pico_adapter(
    out: Path,
    *,
    rank: int = 4,
    alpha: float = 8,
    targets: Sequence[str] = TARGETS,
    layers: Sequence[int] = range(LAYERS),
    seed: int = 1,
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, torch.Tensor] | None = None,
    rank_of: Mapping[str, int] | None = None,
) -> Path:
    """Write a PEFT LoRA adapter for `pico_model`. `config` overrides keys of its config, `extra` adds or replaces
    tensors, `rank_of` gives modules (by the end of their name) another rank."""
    out.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in pico_shapes(0).items():
        module = name.removesuffix(".weight")
        if module.rsplit(".", 1)[-1] in targets and int(module.split(".")[2]) in layers:
            r = next((r for end, r in (rank_of or {}).items() if module.endswith(end)), rank)
            tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(
                (r, shape[1]), generator=random
            ) / math.sqrt(shape[1])
            tensors[f"base_model.model.{module}.lora_B.weight"] = 0.1 * torch.randn((shape[0], r), generator=random)
    save_file({**tensors, **(extra or {})}, out / "adapter_model.safetensors", {"format": "pt"})
    document = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "pico",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(targets),
        "layers_to_transform": sorted(layers),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps({**document, **(config or {})}, indent=2) + "\n")
    return out


def write_tokenizer(out: Path) -> int:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; return the vocabulary's size."""
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *_CHARACTERS]
    tokens += [f"<unused{i}>" for i in range(-len(tokens) % 64)]
    bpe = BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_prefix_space": False,
        "unk_token": "<unk>",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(_TEMPLATE)
    return len(tokens)


def _save(out: Path, tensors: Mapping[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(dict(tensors), out / "model.safetensors", {"format": "pt"})
        return
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    weight_map = {name: files[i % shards] for i, name in enumerate(tensors)}  # neighbours land in different shards
    for file in files:
        save_file({n: t for n, t in tensors.items() if weight_map[n] == file}, out / file, {"format": "pt"})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
