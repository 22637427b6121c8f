"""Tiny models stored as publishers store them: gpt-oss in MXFP4, any decoder in FP8 with scales."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.families import write_family

Tensors = dict[str, torch.Tensor]


def rewrite(directory: Path, change: Callable[[Tensors], Tensors], quantization: dict | None) -> Path:
    """Save a model's tensors as `change` makes them, and state `quantization` in its config."""
    file = directory / "model.safetensors"
    save_file({n: t.contiguous() for n, t in change(load_file(file)).items()}, file, {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    return directory


def mxfp4_gpt_oss(out: Path, *, seed: int = 0) -> Path:
    """gpt-oss as it is published: experts as `_blocks` and `_scales`, drawn at random, everything else bf16."""

    def change(tensors: Tensors) -> Tensors:
        random = torch.Generator().manual_seed(seed)
        written = dict(tensors)
        for name in [name for name in tensors if name.endswith("_proj") and "experts" in name]:
            experts, inputs, outputs = written.pop(name).shape
            codes = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), generator=random, dtype=torch.uint8)
            scales = torch.randint(120, 124, (experts, outputs, inputs // 32), generator=random, dtype=torch.uint8)
            written |= {f"{name}_blocks": codes, f"{name}_scales": scales}
        return written

    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    return rewrite(write_family("gpt_oss", out), change, {"quant_method": "mxfp4", "modules_to_not_convert": kept})


def fp8_blocks(name: str, out: Path, *, rows: int = 32, columns: int = 32) -> Path:
    """A decoder with its layers' Linears in FP8, a scale for every block, as DeepSeek publishes them."""

    def change(tensors: Tensors) -> Tensors:
        written = dict(tensors)
        for weight in [n for n, t in tensors.items() if t.dim() == 2 and n.endswith("_proj.weight")]:
            blocks = tensors[weight].float().unflatten(0, (-1, rows)).unflatten(2, (-1, columns))
            scale = blocks.abs().amax((1, 3), keepdim=True) / 448
            written[weight] = (blocks / scale).flatten(2).flatten(0, 1).to(torch.float8_e4m3fn)
            written[f"{weight}_scale_inv"] = scale.reshape(blocks.shape[0], blocks.shape[2])
        return written

    size = {"weight_block_size": [rows, columns], "activation_scheme": "dynamic"}
    return rewrite(write_family(name, out), change, {"quant_method": "fp8", **size})
