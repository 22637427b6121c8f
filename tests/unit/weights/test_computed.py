"""Tensors from memory and computed ones read like a file's: whole, in bands, by several threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.weights.computed import InMemory, RowBlocks, merged_rows
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, MergeRecipe, Shards, TensorInfo


def numbers(*shape, dtype=torch.bfloat16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def in_bands(tensors, name, info, nbytes):
    """The tensor fetched in runs of `nbytes`."""
    whole = torch.empty(info.nbytes, dtype=torch.uint8)
    for start in range(0, info.nbytes, nbytes):
        tensors.fetch(name, whole[start : start + nbytes], start)
    return whole.view(info.dtype).view(info.shape)


def test_memory_is_read_whole_and_in_bands_and_is_not_handed_out():
    a = numbers(3, 5, dtype=torch.float32)
    tensors = InMemory({"a": a.T, "b": numbers(2)}, "adapter.bin")
    assert tensors.names() == ["a", "b"] and "a" in tensors and "c" not in tensors
    assert tensors.info("a") == TensorInfo(torch.float32, (5, 3))
    tensors.read("a").zero_()
    assert torch.equal(tensors.read("a"), a.T) and torch.equal(in_bands(tensors, "a", tensors.info("a"), 7), a.T)


def test_memory_names_what_is_missing_or_not_finite():
    tensors = InMemory({"a": torch.tensor([1.0, float("nan")])}, "adapter.bin")
    with pytest.raises(CheckpointError, match=r"tensor c: not in adapter\.bin"):
        tensors.info("c")
    with pytest.raises(CheckpointError, match=r"tensor a in adapter\.bin: 1 of 2 values are NaN or Inf"):
        tensors.read("a")


@pytest.mark.parametrize("shape, block", [((7, 5), 2), ((7, 5), 7), ((3, 4, 5), 4), ((6,), 1), ((1, 5), 3)])
@pytest.mark.parametrize("nbytes", [2, 10, 14, 1000])
def test_blocks_make_the_whole_whatever_the_bands(shape, block, nbytes):
    whole, made = numbers(*shape), []

    def make(begin, end):
        made.append((begin, end))
        return whole.reshape(-1, shape[-1])[begin:end]

    info = TensorInfo(torch.bfloat16, shape)
    blocks = RowBlocks(info, block, make)
    assert blocks.info("any") == info and torch.equal(in_bands(blocks, "x", info, nbytes), whole)
    rows = whole.numel() // shape[-1]
    assert made == [(begin, min(begin + block, rows)) for begin in range(0, rows, block)], "each is made once"
    assert torch.equal(blocks.read("x"), whole)


def test_threads_do_not_mix_their_blocks():
    whole = numbers(64, 8)
    info = TensorInfo(torch.bfloat16, (64, 8))
    blocks = RowBlocks(info, 4, lambda begin, end: whole[begin:end])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda nbytes: in_bands(blocks, "x", info, nbytes), [2, 6, 10, 32, 48, 64, 100, 128]))
    assert all(torch.equal(result, whole) for result in results)


def test_a_computed_tensor_that_is_not_finite_is_named():
    blocks = RowBlocks(TensorInfo(torch.float32, (2, 2)), 1, lambda b, e: torch.full((e - b, 2), float("inf")))
    with pytest.raises(CheckpointError, match=r"merged tensor w: 4 of 4 values are NaN or Inf"):
        blocks.read("w")


def test_rows_of_a_merge_are_rows_of_the_whole_merge(tmp_path):
    weight, a, b = numbers(9, 6), numbers(2, 6, dtype=torch.float32), numbers(9, 2, dtype=torch.float32)
    save_file({"w": weight}, tmp_path / "model.safetensors")
    stored = Shards.open(tmp_path)
    update = LowRank(a, b, 0.3)
    assert torch.equal(merged_rows(MergeRecipe(stored, "w", ()), 2, 5), weight[2:5])
    twice = merge(merge(weight, update), update)
    assert torch.equal(merged_rows(MergeRecipe(stored, "w", (update, update)), 2, 5), twice[2:5])
