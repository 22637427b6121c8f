"""What the GPU proof plants is what it says: GPTQ's packing read back, one matrix changed."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.gpu.checkpoints import plant_scale, write_gptq

LAYER = "model.layers.14.self_attn"


def model(folder: Path) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    names = [f"{LAYER}.{part}_proj.weight" for part in "qkvo"]
    tensors = {name: torch.randn(16, 64, generator=random).to(torch.bfloat16) * (i + 1) for i, name in enumerate(names)}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return tensors


def test_gptq_reads_back_within_half_a_step(tmp_path: Path) -> None:
    plain = model(tmp_path / "plain")
    write_gptq(tmp_path / "plain", tmp_path / "gptq", group=32)
    written = load_file(tmp_path / "gptq" / "model.safetensors")
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    for name, weight in plain.items():
        stem = name.removesuffix(".weight")
        codes = (written[f"{stem}.qweight"][:, None, :] >> shifts[:, None] & 15).reshape(64, 16)
        zeros = (written[f"{stem}.qzeros"][:, :, None] >> shifts & 15).reshape(2, 16) + 1  # AutoGPTQ stores one less
        groups = written[f"{stem}.g_idx"].long()
        scales = written[f"{stem}.scales"].float()[groups]
        back = (codes - zeros[groups]) * scales
        assert ((back - weight.T.float()).abs() <= scales * 0.501 + 1e-6).all()
    assert json.loads((tmp_path / "gptq" / "config.json").read_text())["quantization_config"]["quant_method"] == "gptq"


def test_one_matrix_is_wrong_and_no_other(tmp_path: Path) -> None:
    plain = model(tmp_path / "plain")
    plant_scale(tmp_path / "plain", tmp_path / "wrong")
    wrong = load_file(tmp_path / "wrong" / "model.safetensors")
    changed = [name for name, weight in plain.items() if not torch.equal(weight, wrong[name])]
    assert changed == [f"{LAYER}.o_proj.weight"] and torch.equal(wrong[changed[0]], plain[changed[0]] * 2)
