"""Limits of a GPU engine and the memory they take, on one GPU, decided before it starts.

    weights    bytes of the shards / (tensor x pipeline parallel)
    KV cache   what a request of `context` tokens keeps (`planning.kv_cache`; windows not used) x slots / pipeline
    compute    batched tokens x (4 hidden + 2 intermediate) x 2 bytes + slots x vocabulary x 4 bytes x 3
    process    2.5 GB: CUDA context, libraries, NCCL, graphs

The KV cache is allocated whole at the start. Activations of one scheduler step are an estimate (hidden state, residual,
attention's and the gated layer's output in bf16; logits, their softmax and a sorted copy in fp32); the KV cache is
given to the engine in bytes, so that an estimate that is off ends in a refused start, not in fewer users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.driver import Limits
from slipway.engines.model_facts import ModelFacts
from slipway.errors import CheckpointError, ConfigError, ResourceError
from slipway.planning.fit import fit, gpu_room, room_in_words
from slipway.planning.kv_cache import LayerCache, request_values, token_values
from slipway.planning.serving_memory import GPU_PROCESS_BYTES as PROCESS_BYTES
from slipway.planning.serving_memory import KV_BLOCK as BLOCK
from slipway.planning.serving_memory import STATE_BYTES, default_step, gpu_logits, gpu_step

_KV_BYTES = {"bf16": 2.0, "fp8": 1.0}


@dataclass(frozen=True)
class GpuPlan:
    """Limits, planned bytes of one GPU by what takes them, and notes."""

    limits: Limits
    memory: dict[str, float]
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """Bytes of one GPU."""
        return sum(self.memory.values())


def plan_limits(facts: ModelFacts, params: EngineConfig, target: TargetConfig) -> GpuPlan:
    """Raises ConfigError for a context that the model was not made for and for parallel sizes that do not divide it,
    ResourceError naming the figures when it does not fit."""
    _check_context(facts, params)
    kv_dtype = params.kv_dtype if params.kv_dtype != "auto" else ("fp8" if facts.kv_scales else "bf16")
    sizes = [params.tensor_parallel] if params.tensor_parallel else _tensor_parallel(facts, params, target)
    _check_parallel(sizes[0], facts, params, target)
    plans = [_plan(facts, params, size, kv_dtype) for size in sizes]
    fitting = next((plan for plan in plans if fit(plan.total, budget(target)).fits), None)
    if fitting is None:
        raise _does_not_fit(plans[-1], params, target)
    return fitting


def budget(target: TargetConfig) -> float:
    """Bytes of one GPU that an engine may take. Raises ConfigError for a target without a GPU."""
    room = gpu_room(target)
    if not target.gpus or room is None:
        raise ConfigError(
            f"target {target.name}",
            "no GPU",
            "a GPU and its memory",
            "choose a row of conf/targets for `serving`, as layers.serving=targets/spark",
        )
    return room


def step_tokens(params: EngineConfig) -> int:
    """Tokens of one scheduler step: what the config says, else a whole prompt within 2,048 to 8,192."""
    tokens = params.batched_tokens or default_step(params.context)
    if tokens < params.slots:
        raise ConfigError("engine.batched_tokens", tokens, f"at least the {params.slots} slots", "raise it")
    return tokens


def graph_sizes(params: EngineConfig) -> list[int]:
    """Batch sizes with a CUDA graph: a batch is padded to the next one, so powers of two and the number of slots."""
    if params.graph_sizes is not None:
        return sorted(set(params.graph_sizes))
    return sorted({1 << i for i in range(params.slots.bit_length()) if 1 << i <= params.slots} | {params.slots})


def _check_context(facts: ModelFacts, params: EngineConfig) -> None:
    if facts.longest and params.context > facts.longest:
        raise ConfigError(
            "engine.context", params.context, f"at most the model's {facts.longest} positions", "lower engine.context"
        )


def _tensor_parallel(facts: ModelFacts, params: EngineConfig, target: TargetConfig) -> list[int]:
    """Sizes to try, fewest first: powers of two that divide the heads and that the target has."""
    most = max(1, target.gpus * target.nodes // params.pipeline_parallel)
    return [1 << i for i in range(most.bit_length()) if 1 << i <= most and facts.heads % (1 << i) == 0]


def _check_parallel(tensor: int, facts: ModelFacts, params: EngineConfig, target: TargetConfig) -> None:
    gpus = target.gpus * target.nodes
    if facts.heads % tensor:
        raise ConfigError("engine.tensor_parallel", tensor, f"a divisor of the {facts.heads} heads", "choose another")
    if params.pipeline_parallel > facts.layers:
        raise ConfigError(
            "engine.pipeline_parallel", params.pipeline_parallel, f"at most {facts.layers} layers", "lower it"
        )
    if tensor * params.pipeline_parallel > max(gpus, 1):
        raise ConfigError(
            "engine.tensor_parallel x engine.pipeline_parallel",
            f"{tensor} x {params.pipeline_parallel}",
            f"at most the {gpus} GPUs of target {target.name}",
            "lower one of them, or choose another target",
        )


def _plan(facts: ModelFacts, params: EngineConfig, tensor: int, kv_dtype: str) -> GpuPlan:
    step, pipeline = step_tokens(params), params.pipeline_parallel
    whole = _whole_cache(facts, params, tensor, kv_dtype)
    kv = params.kv_gb * 1e9 if params.kv_gb else whole
    memory = {
        "weights": facts.weight_bytes / (tensor * pipeline),
        "kv_cache": float(math.ceil(kv)),
        "compute": gpu_step(step, facts.hidden, facts.inner, tensor) + params.slots * gpu_logits(facts.vocabulary),
        "process": PROCESS_BYTES,
    }
    limits = Limits(
        context=params.context,
        slots=params.slots,
        batched_tokens=step,
        kv_bytes=math.ceil(kv),
        kv_dtype=kv_dtype,
        graph_sizes=graph_sizes(params),
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
    )
    notes: tuple[str, ...] = ()
    if kv < whole:
        users = int(kv // (whole / params.slots))
        notes = (f"engine.kv_gb holds {users} requests of {params.context} tokens at a time; others wait.",)
    return GpuPlan(limits, memory, notes)


def token_bytes(caches: tuple[LayerCache, ...], limits: Limits) -> float:
    """Bytes of the KV cache that one more token takes on one GPU."""
    return token_values(caches, limits.tensor_parallel) * _KV_BYTES[limits.kv_dtype] / limits.pipeline_parallel


def _whole_cache(facts: ModelFacts, params: EngineConfig, tensor: int, kv_dtype: str) -> float:
    """Bytes on one GPU for every slot's whole context and a block; 0 when it is unknown and engine.kv_gb says it."""
    if isinstance(facts.caches, CheckpointError):
        if params.kv_gb is None:
            error = facts.caches
            raise CheckpointError(error.thing, error.value, error.expected, f"give engine.kv_gb; {error.next_step}")
        return 0.0
    context = math.ceil(params.context / BLOCK) * BLOCK
    tokens, states = request_values(facts.caches, context, tensor, windowed=False)
    block = token_values(facts.caches, tensor) * BLOCK
    bytes_all = (tokens * params.slots + block) * _KV_BYTES[kv_dtype] + states * params.slots * STATE_BYTES
    return bytes_all / params.pipeline_parallel


def _does_not_fit(plan: GpuPlan, params: EngineConfig, target: TargetConfig) -> ResourceError:
    parts = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in plan.memory.items())
    a_user = plan.memory["kv_cache"] / params.slots
    left = budget(target) - (plan.total - plan.memory["kv_cache"])
    users = max(0, int(left // a_user)) if a_user else 0
    step = (
        f"{users} slots of {params.context} tokens fit: engine.slots={users}; or lower engine.context, take "
        f"engine.kv_dtype=fp8, more GPUs or another target"
        if users
        else "quantize to fewer bits, take more GPUs (engine.tensor_parallel) or another target"
    )
    return ResourceError(
        f"engine on {target.name}, GB of each of {plan.limits.tensor_parallel * plan.limits.pipeline_parallel} GPUs",
        f"{plan.total / 1e9:.1f} ({parts})",
        f"at most {budget(target) / 1e9:.1f} ({room_in_words(target)})",
        step,
    )
