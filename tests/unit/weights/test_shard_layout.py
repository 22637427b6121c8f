"""Where tensors go, before a byte is written."""

import json

import torch

from slipway.weights.shard_layout import file_layout, plan_shards
from slipway.weights.shards import TensorInfo


def test_shards_keep_the_bound_unless_one_tensor_is_larger():
    info = TensorInfo(torch.uint8, (10,))
    plan = {"a": info, "b": info, "c": TensorInfo(torch.uint8, (50,)), "d": info}
    assert [list(shard) for shard in plan_shards(plan, 20)] == [["a", "b"], ["c"], ["d"]]


def test_a_file_is_header_and_data_without_holes_widest_dtype_first():
    tensors = {
        "odd": TensorInfo(torch.uint8, (3,)),
        "wide": TensorInfo(torch.float32, (2,)),
        "half": TensorInfo(torch.bfloat16, (1,)),
    }
    start, offsets, size = file_layout(tensors)
    header = json.loads(start[8:])
    assert int.from_bytes(start[:8], "little") == len(start) - 8 and len(start) % 8 == 0
    assert offsets == {"wide": len(start), "half": len(start) + 8, "odd": len(start) + 10} and size == len(start) + 13
    assert header["wide"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert header["__metadata__"] == {"format": "pt"}


def test_no_tensors_make_one_empty_shard():
    assert plan_shards({}, 10) == [{}]
