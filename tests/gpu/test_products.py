"""The merge is the correctly rounded one on both devices: the same bytes whole or in bands, of any number of rows."""

import json

import pytest
import torch
from safetensors.torch import save_file

from slipway.quantization.compiled import Kernels
from slipway.streaming.loader import Loader
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.rounded_merge import Factors
from slipway.weights.shards import LowRank, Shards
from tests.oracles.exact_merge import exact_merge

SHAPES = [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336), (28672, 8192), (257, 2048)]
BLOCK = 1024  # rows of the fp64 reference at a time


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rank", [1, 4, 16, 32, 64, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bound_of_a_product_holds(device, rank, shape):
    a, b = factors(shape, rank)
    made, step = Factors.of(LowRank(a, b, 2.0), torch.device(device)), min(BLOCK, shape[0])
    exact = (b[:step].double() @ a.double() * 2.0).to(device)
    error = (made.product(0, step).double() - exact).abs()
    assert (error <= made.bound[:step, None].double()).all()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("rank", [1, 8, 64])
def test_merged_is_the_exact_merge(tmp_path, device, rank):
    source = head(tmp_path, rows=19, columns=256, rank=rank)
    a, b = (source.recipe("head.weight").updates[0].a, source.recipe("head.weight").updates[0].b)
    want = exact_merge(Shards.open(tmp_path).read("head.weight"), a, b, 1.0)
    assert differing(loaded(source, device), want) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rank", [16, 64])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 17, 18, 129, 146])  # a CPU's band is 2 rows of 131072, a GPU's is 128
def test_both_devices_make_the_same_bytes(tmp_path, rows, rank, dtype):
    """Adapters in bf16 have exact ties."""
    source = head(tmp_path, rows, 131072, rank, dtype)
    want = source.read("head.weight")
    assert [differing(loaded(source, device), want) for device in ("cpu", "cuda")] == [0, 0]


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_precision_of_matmuls_changes_nothing(tmp_path, precision):
    """TF32 on a GPU, bf16 on some CPUs."""
    source = head(tmp_path, 64, 8192, 16)
    want, before = source.read("head.weight"), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert [differing(loaded(source, device), want) for device in ("cpu", "cuda")] == [0, 0]
    finally:
        torch.set_float32_matmul_precision(before)


def head(folder, rows, columns, rank, dtype=torch.float32):
    """A checkpoint of one tensor with an adapter."""
    random = torch.Generator().manual_seed(rows)
    (folder / "adapter").mkdir()
    weight = torch.randn(rows, columns, generator=random).to(torch.bfloat16)
    save_file({"head.weight": weight}, folder / "model.safetensors")
    a, b = torch.randn(rank, columns, generator=random), torch.randn(rows, rank, generator=random)
    names = {"base_model.model.head.lora_A.weight": a.to(dtype), "base_model.model.head.lora_B.weight": b.to(dtype)}
    save_file(names, folder / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["head"]}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return MergedSource(Shards.open(folder), LoraAdapter(folder / "adapter"))


def loaded(source, device):
    target = torch.device(device)
    return Loader(source, target, Kernels(target, "off", 0)).load("head.weight").weight.cpu()


def factors(shape, rank):
    random = torch.Generator().manual_seed(rank)
    a = torch.randn(rank, shape[1], generator=random) / shape[1] ** 0.5
    return a, torch.randn(shape[0], rank, generator=random) * 0.01


def differing(x, y):
    return int((x.view(torch.int16) != y.view(torch.int16)).sum())
