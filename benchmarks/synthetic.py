"""Llama-shaped checkpoints and adapters of random weights, written with the safetensors library: what benchmarks run
on.

`python -m benchmarks.synthetic 3gb WORK` writes WORK/3gb: model, adapter (rank 16 on every Linear), rows to calibrate
with.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = False

    def linears(self) -> dict[str, tuple[int, int]]:
        head = self.hidden // self.heads
        kv = head * self.kv_heads
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }

    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "hidden_act": "silu",
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": self.tied,
        }


SHAPES = {
    "tiny": Shape(2, 256, 512, 4, 2, 512),
    "slice": Shape(4, 2048, 8192, 16, 4, 32000),  # 0.75 GB: four layers of the next
    "3gb": Shape(24, 2048, 8192, 16, 4, 32000),  # 3.1 GB
    "8b": Shape(32, 4096, 14336, 32, 8, 128256),  # Llama-3.1-8B
    "70b": Shape(80, 8192, 28672, 64, 8, 128256),  # Llama-3.3-70B
}


def layer_tensors(shape: Shape, layer: int, random: torch.Generator) -> dict[str, torch.Tensor]:
    """One decoder layer, bf16, on the generator's device."""
    prefix, device = f"model.layers.{layer}", random.device
    made = {
        f"{prefix}.{name}.weight": (torch.randn(size, generator=random, device=device) / size[1] ** 0.5).to(
            torch.bfloat16
        )
        for name, size in shape.linears().items()
    }
    norms = ("input_layernorm", "post_attention_layernorm")
    return made | {
        f"{prefix}.{name}.weight": torch.ones(shape.hidden, dtype=torch.bfloat16, device=device) for name in norms
    }


def write_model(shape: Shape, out: Path, device: str = "cpu", layers_a_shard: int = 8) -> int:
    """Write shards of `layers_a_shard` layers and the index; returns bytes of weights."""
    out.mkdir(parents=True, exist_ok=True)
    random = torch.Generator(device).manual_seed(0)
    ends = {
        "model.embed_tokens.weight": torch.randn(shape.vocab, shape.hidden, generator=random, device=device)
        .mul_(0.02)
        .to(torch.bfloat16)
    }
    ends["model.norm.weight"] = torch.ones(shape.hidden, dtype=torch.bfloat16, device=device)
    if not shape.tied:
        ends["lm_head.weight"] = (
            torch.randn(shape.vocab, shape.hidden, generator=random, device=device).mul_(0.02).to(torch.bfloat16)
        )
    shards = [ends] + [{} for _ in range(-(-shape.layers // layers_a_shard))]
    weight_map, total = {}, 0
    for i in range(len(shards)):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = ends if i == 0 else {}
        for layer in range((i - 1) * layers_a_shard, min(i * layers_a_shard, shape.layers)) if i else ():
            tensors |= layer_tensors(shape, layer, random)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, out / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        total += sum(t.nbytes for t in tensors.values())
    (out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    )
    (out / "config.json").write_text(json.dumps(shape.config(), indent=1))
    return total


def write_adapter(shape: Shape, out: Path, rank: int = 16) -> None:
    """A PEFT LoRA adapter on every Linear of every layer."""
    out.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for layer in range(shape.layers):
        for name, (rows, columns) in shape.linears().items():
            module = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, columns, generator=random) / columns**0.5
            tensors[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=random) * 0.01
    save_file(tensors, out / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "synthetic",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "target_modules": list(TARGETS),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps(config))


def write_calibration(shape: Shape, folder: Path, rows: int = 128, length: int = 512) -> None:
    """A tokenizer that makes token i of the word `i`, beside the model, and rows of random words: random token ids, as
    text."""
    vocab = {str(i): i for i in range(shape.vocab)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "0"})
    )
    ids = torch.randint(shape.vocab, (rows, length), generator=torch.Generator().manual_seed(2)).tolist()
    (folder / "calibration.jsonl").write_text(
        "".join(json.dumps({"text": " ".join(map(str, row))}) + "\n" for row in ids)
    )


def prepare(name: str, work: Path, device: str = "cpu", *, stored_layers: int | None = None) -> Path:
    """WORK/NAME with `model`, `adapter` and `calibration.jsonl`, written unless a former run left them whole, and read
    once into the page cache. With `stored_layers` the weights are those of fewer layers, and config.json still
    describes all of them."""
    folder, shape = work / name, SHAPES[name]
    if not (folder / "adapter" / "adapter_config.json").exists():  # written last
        write_model(replace(shape, layers=stored_layers or shape.layers), folder / "model", device)
        (folder / "model" / "config.json").write_text(json.dumps(shape.config(), indent=1))
        write_calibration(shape, folder)
        write_adapter(shape, folder / "adapter")
    buffer = bytearray(1 << 24)
    for file in sorted(folder.rglob("*.safetensors")):
        with file.open("rb", buffering=0) as f:
            while f.readinto(buffer):
                pass
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("work", type=Path)
    parser.add_argument("--device", default="cpu", help="where random numbers are made; a GPU is faster")
    parser.add_argument("--stored-layers", type=int)
    args = parser.parse_args()
    print(prepare(args.shape, args.work, args.device, stored_layers=args.stored_layers))


if __name__ == "__main__":
    main()
