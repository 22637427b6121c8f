"""Weights come merged and rounded once, in any bands, with their largest magnitude, and what is not finite is named."""

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.quantization.compiled import Kernels
from slipway.streaming import loader
from slipway.streaming.loader import Loader, band_rows
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, MergeRecipe, Shards
from tests.support.pico import pico_adapter, pico_model

CPU = torch.device("cpu")
KERNELS = {mode: Kernels(CPU, mode, 0) for mode in ("off", "on")}
MODE = ["off"]
NAME = "model.layers.0.mlp.up_proj.weight"


def load(source, nbytes=0):
    loaded = Loader(source, CPU, KERNELS[MODE[0]])
    loaded.begin(nbytes)
    return loaded


@pytest.fixture(autouse=True, params=KERNELS)
def mode(request):
    """Bands merged by torch's operations, and by the compiled loop."""
    MODE[0] = request.param


@pytest.fixture
def base(tmp_path):
    return Shards.open(pico_model(tmp_path / "base", layers=1))


def merged(tmp_path, base, **adapter):
    return MergedSource(base, LoraAdapter(pico_adapter(tmp_path / "adapter", layers=[0], **adapter)))


@pytest.mark.parametrize("band", [1, 64, 5 * 64, 1 << 18])
@pytest.mark.parametrize(
    "adapter", [{"alpha": 8}, {"alpha": 7, "rank": 6}, {"rank": 33, "alpha": 100, "config": {"use_rslora": True}}]
)
def test_any_band_gives_the_bits_of_the_whole(tmp_path, monkeypatch, base, band, adapter):
    monkeypatch.setattr(loader, "CPU_BAND", band)
    source = merged(tmp_path, base, **adapter)
    for name in source.names():
        loaded, want = load(source, 10_000).load(name), source.read(name)
        assert loaded.weight.dtype == torch.bfloat16 and torch.equal(loaded.weight, want)
        assert float(loaded.amax) == float(want.float().abs().amax()) and loaded.amax.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_other_dtypes_are_rounded_to_bf16(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(loader, "CPU_BAND", 3 * 16)
    weight = torch.randn(10, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"w": weight}, tmp_path / "model.safetensors")
    source = Shards.open(tmp_path)
    assert torch.equal(load(source).load("w").weight, weight.to(torch.bfloat16))
    assert torch.equal(load(source).band("w", 3, 3), weight[3:6].to(torch.bfloat16))


def test_vectors_scalars_and_integers(tmp_path):
    values = {"v": torch.ones(5), "s": torch.tensor(-2.0), "i": torch.arange(6).reshape(2, 3)}
    save_file(values, tmp_path / "model.safetensors")
    source = Shards.open(tmp_path)
    assert load(source).load("v").weight.tolist() == [1.0] * 5
    assert load(source).load("s").weight.item() == -2 and load(source).load("s").amax.item() == 2
    assert (
        torch.equal(load(source).band("i", 1, 1), values["i"][1:]) and load(source).band("i", 1, 1).dtype == torch.int64
    )


def test_updates_are_added_one_after_the_other_and_rounded_after_each(base):
    random = torch.Generator().manual_seed(0)
    updates = [
        LowRank(torch.randn(4, 64, generator=random), torch.randn(128, 4, generator=random), s) for s in (0.3, 2.0)
    ]

    class Twice:
        names, info, read = base.names, base.info, base.read

        def recipe(self, name):
            return MergeRecipe(base, name, tuple(updates))

    want = base.read(NAME)
    for update in updates:
        want = merge(want, update)
    assert torch.equal(load(Twice()).load(NAME).weight, want)


def test_a_replaced_tensor_is_the_adapters(tmp_path, base):
    norm = torch.full((64,), 0.1)
    source = merged(
        tmp_path, base, config={"modules_to_save": ["norm"]}, extra={"base_model.model.model.norm.weight": norm}
    )
    assert torch.equal(load(source).load("model.norm.weight").weight, norm.to(torch.bfloat16))


def test_memory_is_used_again_and_given_back_above_a_share(base):
    loaded = Loader(base, CPU, KERNELS[MODE[0]])
    loaded.begin(base.info(NAME).nbytes)
    first = loaded.load(NAME).weight
    loaded.end(share=1e9)
    loaded.begin(100)
    assert loaded.load(NAME).weight.data_ptr() == first.data_ptr()
    loaded.end(share=100)
    assert loaded._arena.numel() == 0


def test_two_tensors_of_a_unit_do_not_overlap(base):
    names = (NAME, NAME.replace("up", "gate"))
    loaded = load(base, sum(base.info(name).nbytes for name in names))
    weights = [loaded.load(name).weight for name in names]
    assert all(torch.equal(weight, base.read(name)) for weight, name in zip(weights, names, strict=True))


def test_adapter_factors_are_folded_once_a_tensor(tmp_path, monkeypatch, base):
    monkeypatch.setattr(loader, "CPU_BAND", 64)
    source, asked = merged(tmp_path, base), []
    recipe = source.recipe
    monkeypatch.setattr(source, "recipe", lambda name: asked.append(name) or recipe(name))
    loaded = load(source)
    for begin in range(128):
        loaded.band(NAME, begin, 1)
    assert asked == [NAME]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("way", ["load", "band"])
def test_what_is_not_finite_is_named_with_its_file(tmp_path, value, way):
    weight = torch.zeros(8, 16)
    weight[7, 3] = value
    save_file({"w": weight}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor w in .*model\.safetensors: 1 of 128 values are NaN or Inf"):
        load(Shards.open(tmp_path)).load("w") if way == "load" else load(Shards.open(tmp_path)).band("w", 7, 1)


@pytest.mark.parametrize("way", ["load", "band"])
def test_what_overflows_in_bf16_is_named(tmp_path, way):
    save_file({"w": torch.full((1, 16), 3.4e38)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor w: .*expected finite values"):
        load(Shards.open(tmp_path)).load("w") if way == "load" else load(Shards.open(tmp_path)).band("w", 0, 1)


def test_bands_are_of_one_row_at_least_and_larger_on_a_gpu():
    assert band_rows(10**9, CPU) == 1 and band_rows(0, CPU) == loader.CPU_BAND
    assert band_rows(1024, torch.device("cuda")) == 32 * band_rows(1024, CPU)
