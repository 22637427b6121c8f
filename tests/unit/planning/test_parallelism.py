"""How GPUs share the work: replicas and shards of train rows, counted by hand."""

import pytest

from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.planning.parallelism import Parallelism, parallelism


def row(**sizes):
    return TrainConfig.model_validate({"backend": "nemo", "method": "lora", **sizes})


def gpus(nodes=1, each=8):
    return TargetConfig(nodes=nodes, gpus=each, gpu_memory_gb=80)


@pytest.mark.parametrize(
    ("sizes", "target", "world", "model", "data"),
    [
        ({}, gpus(), 8, 1, 8),
        ({"tensor_parallel": 4}, gpus(), 8, 4, 2),
        ({"tensor_parallel": 2, "pipeline_parallel": 2}, gpus(nodes=2), 16, 4, 4),
        ({"context_parallel": 8}, gpus(), 8, 8, 1),
        ({"expert_parallel": 8}, gpus(), 8, 1, 8),
    ],
)
def test_replicas_are_what_the_model_leaves_of_the_world(sizes, target, world, model, data):
    split = parallelism(row(**sizes), target)
    assert (split.world, split.model, split.data) == (world, model, data)


def test_a_replica_that_does_not_divide_the_world_leaves_none():
    assert Parallelism(8, 3, 1, 1, 1).data == 0
    assert Parallelism(4, 8, 1, 1, 1).data == 0


def test_a_target_without_a_gpu_trains_as_one():
    assert parallelism(row(), TargetConfig(gpus=0)).world == 1


def test_weights_are_sharded_over_replicas_and_the_parts_of_a_sequence():
    assert Parallelism(8, 2, 2, 1, 1).shards == 4, "two replicas, each with two GPUs a sequence"
    assert Parallelism(8, 8, 1, 1, 1).shards == 1
    assert Parallelism(8, 3, 1, 1, 1).shards == 1, "never fewer than one"
