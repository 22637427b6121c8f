"""How the GPUs of a target share the work.

world = nodes * gpus = data * tensor * context * pipeline; experts are cut inside data * tensor * context, not beside
it. A step of `global_batch` sequences takes global_batch / (micro_batch * data) forward passes on each GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig


@dataclass(frozen=True)
class Parallelism:
    """Sizes of each way to share, GPUs; `data` is 0 when the others do not divide the world."""

    world: int
    tensor: int
    context: int
    pipeline: int
    expert: int

    @property
    def data(self) -> int:
        """Data-parallel replicas; 0 when the GPUs of a replica do not divide the GPUs there are."""
        return self.world // self.model if self.world % self.model == 0 else 0

    @property
    def model(self) -> int:
        """GPUs that one replica of the model takes."""
        return self.tensor * self.context * self.pipeline

    @property
    def shards(self) -> int:
        """GPUs over which FSDP2 shards each weight."""
        return max(1, self.data) * self.context


def parallelism(params: TrainConfig, target: TargetConfig) -> Parallelism:
    """How a train row cuts a model over the GPUs of a target; a target without a GPU counts as one."""
    world = target.nodes * max(1, target.gpus)
    return Parallelism(
        world, params.tensor_parallel, params.context_parallel, params.pipeline_parallel, params.expert_parallel
    )
