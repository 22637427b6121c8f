"""Checkpoints that only a proof needs: GPTQ, AWQ and bitsandbytes as other tools write them, a fault planted."""

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
    settings = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": False, "sym": True}
    _save(tensors, plain, out, {**settings, "checkpoint_format": "gptq"})
    return {"layers": count}


def write_awq(plain: Path, out: Path, group: int = 64) -> Doc:
    """`plain` as an AWQ checkpoint: 4 bits with zero points, `group` inputs a scale, rounded to nearest without AWQ's
    own scaling, in AutoAWQ's names, packing and order of columns ("gemm")."""
    import torch

    out.mkdir(parents=True, exist_ok=True)
    order = torch.tensor((0, 2, 4, 6, 1, 3, 5, 7))
    shifts, tensors, count = torch.arange(0, 32, 4), {}, 0

    def packed(codes: Any) -> Any:
        blocks = codes.reshape(codes.shape[0], -1, 8)[:, :, order]
        return _int32((blocks << shifts).sum(2))

    for name, weight in _weights_of(plain).items():
        if not name.endswith("_proj.weight"):
            tensors[name] = weight.to(torch.float16)
            continue
        stem, (rows, inputs) = name.removesuffix(".weight"), weight.shape
        blocks = weight.float().reshape(rows, inputs // group, group)
        low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
        scales = ((high - low) / 15).clamp(min=1e-6).to(torch.float16).float()
        zeros = (-low / scales).round().clamp(0, 15)
        codes = ((blocks / scales[..., None]).round() + zeros[..., None]).clamp(0, 15).to(torch.int64)
        tensors[f"{stem}.qweight"] = packed(codes.reshape(rows, inputs).T.contiguous())
        tensors[f"{stem}.qzeros"] = packed(zeros.to(torch.int64).T.contiguous())
        tensors[f"{stem}.scales"] = scales.T.contiguous().to(torch.float16)
        count += 1
    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    _save(tensors, plain, out, {**settings, "modules_to_not_convert": None})
    return {"layers": count}


def write_bnb(plain: Path, out: Path) -> Doc:
    """`plain` in NF4, as transformers and bitsandbytes save it. Needs both and a GPU."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=settings, device_map={"": 0})
    model.save_pretrained(out)
    for file in (*plain.glob("tokenizer*"), *plain.glob("*.jinja")):
        shutil.copy2(file, out / file.name)
    return {"bytes": sum(file.stat().st_size for file in out.glob("*.safetensors"))}


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


def _save(tensors: Doc, plain: Path, out: Path, quantization: Doc) -> None:
    """`tensors` with `plain`'s other files; what is not quantized is fp16."""
    from safetensors.torch import save_file

    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    for file in plain.glob("*"):
        if file.suffix in (".json", ".jinja") and "index" not in file.name and file.name != "config.json":
            shutil.copy2(file, out / file.name)
    config = json.loads((plain / "config.json").read_text())
    (out / "config.json").write_text(
        json.dumps({**config, "dtype": "float16", "quantization_config": quantization}) + "\n"
    )


def _weights_of(folder: Path) -> Doc:
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _int32(values: Any) -> Any:
    """64-bit integers below 2^32 as the 32-bit ones of the same bits."""
    import torch

    return torch.where(values >= 2**31, values - 2**32, values).to(torch.int32).contiguous()
