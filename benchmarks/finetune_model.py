"""Models of random weights to fine-tune: Llama-3.1-8B's shape, and a tiny one of the same kind for machines without a
GPU.

The tokenizer is SmolLM2's, out of the folder named by `--tokenizer` (tests/gpu/carry.py makes one), so the vocabulary
is 49,152.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.synthetic import SHAPES, Shape, write_model

VOCABULARY = 49152
MODELS = {
    "8b": replace(SHAPES["8b"], vocab=VOCABULARY),
    "3gb": replace(SHAPES["3gb"], vocab=VOCABULARY),
    "tiny": Shape(2, 64, 128, 4, 2, VOCABULARY),
}
CONTEXT = {"8b": 8192, "3gb": 8192, "tiny": 512}
PACK_LENGTH = {"8b": 2048, "3gb": 2048, "tiny": 256}


def parameters(shape: Shape) -> int:
    """Parameters of a model of this shape, embeddings included."""
    layer = sum(a * b for a, b in shape.linears().values())
    return shape.layers * layer + shape.vocab * shape.hidden * (1 if shape.tied else 2)


def prepare(size: str, work: Path, tokenizer: Path, device: str) -> Path:
    """WORK/SIZE: weights, config and tokenizer, unless they are there."""
    folder, shape = work / size, MODELS[size]
    if not (folder / "tokenizer.json").exists():  # written last
        write_model(shape, folder, device, layers_a_shard=4)
        if device == "cuda":
            torch.cuda.empty_cache()  # what runs next wants the GPU
        config = json.loads((folder / "config.json").read_text())
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        (folder / "config.json").write_text(
            json.dumps({**config, **ids, "max_position_embeddings": CONTEXT[size]}, indent=1)
        )
        (folder / "generation_config.json").write_text(json.dumps(ids))
        for file in sorted(tokenizer.iterdir(), reverse=True):  # tokenizer.json last but for tokenizer_config.json
            if file.name != "tokenizer.json":
                shutil.copy(file, folder / file.name)
        shutil.copy(tokenizer / "tokenizer.json", folder / "tokenizer.json")
    return folder


def overrides(size: str, folder: Path) -> list[str]:
    """The model section of this shape and the untuned pack length, as words of a command line."""
    s = MODELS[size]
    return [
        f"model.directory={folder}",
        f"model.parameters_b={parameters(s) / 1e9:.6f}",
        f"model.layers={s.layers}",
        f"model.hidden={s.hidden}",
        f"model.intermediate={s.intermediate}",
        f"model.heads={s.heads}",
        f"model.kv_heads={s.kv_heads}",
        f"model.vocabulary={s.vocab}",
        f"train.pack_length={PACK_LENGTH[size]}",
    ]
