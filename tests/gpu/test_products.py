"""The LoRA product is one sum over the rank in one order, in fp32: the same bits on both devices, whole or in bands.

Products of fewer than 2^18 elements are made on the CPU always (`slipway.loader`).
"""

import pytest
import torch

SHAPES = [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336), (28672, 8192), (257, 2048)]


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpu_is_cuda(shape, rank):
    a, b = factors(shape, rank)
    assert differing(torch.mm(b, a), torch.mm(b.cuda(), a.cuda()).cpu()) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rank", [1, 4, 16, 64, 256])
@pytest.mark.parametrize("band", [1, 18, 64, 1170])
def test_bands_are_the_whole(device, rank, band):
    a, b = (factor.to(device) for factor in factors((4096, 14336), rank))
    whole = torch.mm(b, a)
    assert sum(differing(torch.mm(rows, a), part) for rows, part in zip(b.split(band)[:4], whole.split(band), strict=False)) == 0


def factors(shape, rank):
    random = torch.Generator().manual_seed(rank)
    return torch.randn(rank, shape[1], generator=random) / shape[1] ** 0.5, torch.randn(shape[0], rank, generator=random) * 0.01


def differing(x, y):
    return int((x != y).sum())
