"""Writing safetensors: the library reads it back, shards are bounded, and nothing is published before it is whole."""

import json

import pytest
import torch
from safetensors.torch import load_file

from slipway.errors import CheckpointError, ResourceError
from slipway.shard_writer import ShardWriter, split
from slipway.shards import INDEX, SINGLE, Shards, TensorInfo


def tensors_of_all_kinds():
    return {
        "a.weight": torch.arange(12, dtype=torch.uint8).reshape(3, 4),
        "a.weight_scale": torch.ones(3, 1).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.tensor(0.5),
        "b.weight": torch.randn(5, 7).to(torch.bfloat16),
        "c.empty": torch.ones(0, 3),
    }


def plan_of(tensors):
    return {name: TensorInfo(t.dtype, tuple(t.shape)) for name, t in tensors.items()}


@pytest.mark.parametrize("max_bytes", [1e9, 40, 1])
def test_the_library_reads_it_back_whatever_the_order_of_writing(tmp_path, max_bytes):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), max_bytes) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
    got = {name: tensor for file in tmp_path.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert got[name].dtype == tensor.dtype and got[name].shape == tensor.shape and got[name].tolist() == tensor.tolist()
    assert Shards.open(tmp_path).names() == sorted(tensors)


def test_tensors_are_aligned_to_their_dtype(tmp_path):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    raw = (tmp_path / SINGLE).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert length % 8 == 0
    for name, tensor in tensors.items():
        assert header[name]["data_offsets"][0] % tensor.dtype.itemsize == 0


def test_shards_keep_the_bound_unless_one_tensor_is_larger():
    info = TensorInfo(torch.uint8, (10,))
    plan = {"a": info, "b": info, "c": TensorInfo(torch.uint8, (50,)), "d": info}
    assert [list(shard) for shard in split(plan, 20)] == [["a", "b"], ["c"], ["d"]]


def test_the_index_counts_and_maps(tmp_path):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), 20) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / file)


def test_a_failure_leaves_no_file(tmp_path):
    tensors = tensors_of_all_kinds()
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, plan_of(tensors), 20) as writer:
        writer.write("a.weight", tensors["a.weight"])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tensor_is_named_and_nothing_is_published(tmp_path):
    tensors = tensors_of_all_kinds()
    with (
        pytest.raises(CheckpointError, match=r"4 tensors missing, first a.weight_scale"),
        ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer,
    ):
        writer.write("a.weight", tensors["a.weight"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, tensor", [("nope", torch.ones(1)), ("a.weight_scale_2", torch.ones(2)), ("a.weight_scale_2", torch.tensor(1))]
)
def test_what_is_not_in_the_plan_is_refused(tmp_path, name, tensor):
    with (
        pytest.raises(CheckpointError, match=f"tensor {name} to write"),
        ShardWriter(tmp_path, plan_of(tensors_of_all_kinds()), 1e9) as writer,
    ):
        writer.write(name, tensor)


def test_a_disk_without_room_is_known_at_once(tmp_path):
    with pytest.raises(ResourceError, match=r"GB free; expected 2000000.00 GB"):
        ShardWriter(tmp_path, {"huge": TensorInfo(torch.bfloat16, (10**15,))}, 1e18)
    assert list(tmp_path.iterdir()) == []
