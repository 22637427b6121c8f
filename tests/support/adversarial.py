"""A Llama of some 300 MB whose weights are what arithmetic trips over: ties of every grid, -0.0, subnormals, blocks of
zeros, blocks 2^40 apart, a projection of zeros, projections whose scalars are huge or subnormal."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support.pico import write_tokenizer

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 2048, 5632, 3, 16, 4
_TOP = 2688 * 2.0**-10  # 6 * 448 * 2^-10: the scalar of NVFP4 is then a power of two, and ties are exact
_TIES_FP4 = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
_TIES_FP8 = torch.tensor([1.0625, 1.1875, 1.3125, 1.4375, 1.5625, 1.6875, 1.8125, 1.9375])  # between neighbours of E4M3


def rows(count: int, columns: int, random: torch.Generator) -> torch.Tensor:
    """bf16 [count, columns]: eight kinds of rows in turn; the first value is the largest."""
    tensor = torch.randn(count, columns, generator=random) / columns**0.5
    sign = torch.randint(2, (count, columns), generator=random) * 2.0 - 1
    scale = torch.exp2(torch.randint(-10, -2, (count, columns // 32), generator=random).repeat_interleave(32, 1))
    fp4 = _TIES_FP4[torch.randint(8, (count, columns), generator=random)]
    fp4[:, ::16] = 6.0  # the largest of each block, so that its scale is a power of two
    tensor[1::8] = (fp4 * sign * scale)[1::8] / 4
    tensor[2::8] = torch.where(sign > 0, 0.0, -0.0)[2::8]
    tensor[3::8] = tensor[3::8] * 2.0**-128
    apart = torch.exp2(-torch.randint(40, (count, columns // 16), generator=random).repeat_interleave(16, 1))
    tensor[4::8] = tensor[4::8] * apart[4::8]
    tensor[5::8] = tensor[5::8] * (torch.arange(columns) // 16 % 2)
    tensor[6::8] = (_TIES_FP8[torch.randint(8, (count, columns), generator=random)] * sign * scale)[6::8]
    near = fp4.to(torch.bfloat16).view(torch.int16) + torch.randint(-1, 2, (count, columns), generator=random).to(
        torch.int16
    )
    tensor[7::8] = (near.view(torch.bfloat16).float() * sign * scale)[7::8] / 4
    tensor = tensor.clamp(-_TOP, _TOP)
    tensor[0, 0] = _TOP
    return tensor.to(torch.bfloat16)


def adversarial_model(out: Path, seed: int = 5) -> Path:
    """Write model directory with tokenizer."""
    out.mkdir(parents=True)
    random, vocab = torch.Generator().manual_seed(seed), write_tokenizer(out)
    kv = HIDDEN * KV_HEADS // HEADS
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    tensors = {
        "model.embed_tokens.weight": rows(vocab, HIDDEN, random),
        "model.norm.weight": torch.ones(HIDDEN, dtype=torch.bfloat16),
    }
    tensors["lm_head.weight"] = rows(vocab, HIDDEN, random)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors |= {f"{prefix}.{name}.weight": rows(*shape, random) for name, shape in shapes.items()}
        tensors |= {
            f"{prefix}.{name}.weight": torch.ones(HIDDEN, dtype=torch.bfloat16)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
    tensors["model.layers.1.self_attn.o_proj.weight"] *= 2.0**40
    tensors["model.layers.2.self_attn.o_proj.weight"] *= 2.0**-120  # its scalar is subnormal
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.2.mlp.{name}.weight"].zero_()
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (out / "config.json").write_text(json.dumps(config))
    return out


def attention_adapter(out: Path, rank: int = 16, seed: int = 6) -> Path:
    """An adapter on the attention of every layer; the ties of the MLPs stay ties."""
    out.mkdir(parents=True)
    random, kv = torch.Generator().manual_seed(seed), HIDDEN * KV_HEADS // HEADS
    tensors = {}
    for layer in range(LAYERS):
        for name, count in {"q_proj": HIDDEN, "k_proj": kv, "v_proj": kv}.items():
            module = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, HIDDEN, generator=random) / HIDDEN**0.5
            tensors[f"{module}.lora_B.weight"] = torch.randn(count, rank, generator=random) * 0.1
    save_file(tensors, out / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 1.5 * rank,
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "bias": "none",
    }
    (out / "adapter_config.json").write_text(json.dumps(config))
    return out
