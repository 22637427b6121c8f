"""Checkpoints that only a proof needs: GPTQ as other tools write it, a fault planted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

Doc = dict[str, Any]


def write_gptq(plain: Path, out: Path, group: int = 64) -> Doc:
    """`plain` as a GPTQ checkpoint: 4 bits, symmetric, `group` inputs a scale, rounded to nearest (its quality is not
    the point), in AutoGPTQ's names and packing."""
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    shifts, tensors, count = torch.arange(0, 32, 4), {}, 0
    for name, weight in _weights_of(plain).items():
        if not name.endswith("_proj.weight"):
            tensors[name] = weight.to(torch.float16)
            continue
        stem, (rows, inputs) = name.removesuffix(".weight"), weight.shape
        blocks = weight.float().reshape(rows, inputs // group, group)
        scales = (blocks.abs().amax(-1) / 7).clamp(min=1e-6).to(torch.float16)
        codes = (blocks / scales.float()[..., None]).round().clamp(-8, 7).to(torch.int64).reshape(rows, inputs) + 8
        packed = (codes.T.reshape(inputs // 8, 8, rows) << shifts[:, None]).sum(1)
        zeros = torch.full((inputs // group, rows // 8), int((7 << shifts).sum()))
        tensors[f"{stem}.qweight"], tensors[f"{stem}.qzeros"] = _int32(packed), _int32(zeros)
        tensors[f"{stem}.scales"] = scales.T.contiguous()
        tensors[f"{stem}.g_idx"] = (torch.arange(inputs) // group).to(torch.int32)
        count += 1
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    for file in plain.glob("*"):
        if file.suffix in (".json", ".jinja") and "index" not in file.name and file.name != "config.json":
            shutil.copy2(file, out / file.name)
    settings = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": True}
    config = json.loads((plain / "config.json").read_text())
    config |= {"dtype": "float16", "quantization_config": {**settings, "checkpoint_format": "gptq"}}
    (out / "config.json").write_text(json.dumps(config) + "\n")
    return {"layers": count}


def plant_scale(plain: Path, out: Path) -> str:
    """`plain` with the output matrix of one attention twice as large. Returns its name."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = _weights_of(plain)
    name = "model.layers.14.self_attn.o_proj.weight"
    weights[name] = weights[name] * 2
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    for file in plain.glob("*"):
        if file.suffix in (".json", ".jinja") and "index" not in file.name:
            shutil.copy2(file, out / file.name)
    return f"{name} times 2"


def _weights_of(folder: Path) -> Doc:
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _int32(values: Any) -> Any:
    """64-bit integers below 2^32 as the 32-bit ones of the same bits."""
    import torch

    return torch.where(values >= 2**31, values - 2**32, values).to(torch.int32).contiguous()
