"""The LoRA product is one sum over the rank in one order, in fp32: the same bits on both devices, whole or in bands.

Products and bands of fewer than 2^18 elements or 18 rows are made on the CPU always (`slipway.streaming.loader`): for
those cuBLAS splits the sum over the rank.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from slipway.quantization.compiled import Kernels
from slipway.streaming.loader import Loader
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards

SHAPES = [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336), (28672, 8192), (257, 2048)]


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpu_is_cuda(shape, rank):
    a, b = factors(shape, rank)
    assert differing(torch.mm(b, a), torch.mm(b.cuda(), a.cuda()).cpu()) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rank", [1, 4, 16, 64, 256])
@pytest.mark.parametrize("band", [18, 64, 1170])
def test_bands_are_the_whole(device, rank, band):
    a, b = (factor.to(device) for factor in factors((4096, 14336), rank))
    whole = torch.mm(b, a)
    assert (
        sum(
            differing(torch.mm(rows, a), part) for rows, part in zip(b.split(band)[:4], whole.split(band), strict=False)
        )
        == 0
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 17, 18, 129, 146])  # a CPU's band is 2 rows of 131072, a GPU's is 128
def test_merged_in_bands_is_merged_whole(tmp_path, device, rows):
    """One row alone is a matrix-vector product to a BLAS, which sums in another order than a matrix product."""
    random = torch.Generator().manual_seed(rows)
    (tmp_path / "adapter").mkdir()
    save_file(
        {"head.weight": torch.randn(rows, 131072, generator=random).to(torch.bfloat16)}, tmp_path / "model.safetensors"
    )
    a, b = torch.randn(256, 131072, generator=random), torch.randn(rows, 256, generator=random)
    names = {"base_model.model.head.lora_A.weight": a, "base_model.model.head.lora_B.weight": b}
    save_file(names, tmp_path / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 256, "lora_alpha": 256, "target_modules": ["head"]}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    source, target = MergedSource(Shards.open(tmp_path), LoraAdapter(tmp_path / "adapter")), torch.device(device)
    loaded = Loader(source, target, Kernels(target, "off", 0)).load("head.weight").weight.cpu()
    assert differing(loaded, source.read("head.weight")) == 0


def factors(shape, rank):
    random = torch.Generator().manual_seed(rank)
    return torch.randn(rank, shape[1], generator=random) / shape[1] ** 0.5, torch.randn(
        shape[0], rank, generator=random
    ) * 0.01


def differing(x, y):
    return int((x != y).sum())
