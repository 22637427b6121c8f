"""The command of `trtllm-serve` and its YAML, from limits, model and target.

The limits stand in both: an option that is given wins over the YAML, one that is not has a default of its own, and
equal values leave no question. Options are only those that every listed release has. `kv_cache_config.max_tokens` gives
the KV cache its planned tokens and skips the start's estimation; the fraction of free memory bounds it a second time,
with a margin of a quarter.

On SM12x the MoE kernels of the `TRTLLM` backend do not run, and `AUTO` may take them: CUTLASS is said outright.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.driver import Limits
from slipway.engines.gpu_limits import GpuPlan, budget, token_bytes
from slipway.engines.model_facts import ModelFacts
from slipway.errors import CheckpointError, ConfigError
from slipway.planning.serving_memory import KV_BLOCK as BLOCK

CONFIG_FILE = "serve.yaml"
LARGEST_FRACTION = 0.9
_MARGIN = 1.25
_SM12X = range(120, 130)
# Option -> key of the config that decides it; '' where every start does
DECIDED = {
    "--host": "",
    "--port": "",
    "--config": "engine.options",
    "--max_batch_size": "engine.slots",
    "--max_num_tokens": "engine.batched_tokens",
    "--max_seq_len": "engine.context",
    "--tensor_parallel_size": "engine.tensor_parallel",
    "--pipeline_parallel_size": "engine.pipeline_parallel",
    "--gpus_per_node": "serving.gpus",
    "--kv_cache_free_gpu_memory_fraction": "engine.kv_gb",
    "--backend": "engine.kind",
}
# The same of the YAML; a key that stands in neither is `engine.options`' own
DECIDED_KEYS = {
    "model": "",
    "backend": "engine.kind",
    "max_batch_size": "engine.slots",
    "max_num_tokens": "engine.batched_tokens",
    "max_seq_len": "engine.context",
    "tensor_parallel_size": "engine.tensor_parallel",
    "pipeline_parallel_size": "engine.pipeline_parallel",
    "gpus_per_node": "serving.gpus",
    "enable_autotuner": "engine.autotune",
    "kv_cache_config.dtype": "engine.kv_dtype",
    "kv_cache_config.max_tokens": "engine.kv_gb",
    "kv_cache_config.free_gpu_memory_fraction": "engine.kv_gb",
    "cuda_graph_config.batch_sizes": "engine.graph_sizes",
}


def serve_options(limits: Limits, target: TargetConfig) -> dict[str, Any]:
    """Option -> value, with the places that a start fills in; the port is added as text by the driver."""
    options: dict[str, Any] = {
        "--host": "{host}",
        "--config": f"{{bundle}}/{CONFIG_FILE}",
        "--max_batch_size": limits.slots,
        "--max_num_tokens": limits.batched_tokens,
        "--max_seq_len": limits.context,
        "--tensor_parallel_size": limits.tensor_parallel,
        "--pipeline_parallel_size": limits.pipeline_parallel,
    }
    if limits.tensor_parallel * limits.pipeline_parallel > target.gpus:
        options["--gpus_per_node"] = target.gpus
    return options


def serve_document(
    plan: GpuPlan, facts: ModelFacts, params: EngineConfig, target: TargetConfig, sm: int
) -> dict[str, Any]:
    """The YAML's keys. Raises ConfigError for a KV cache in bf16 beside a checkpoint that has FP8 scales for it: this
    engine takes the checkpoint's word."""
    limits = plan.limits
    if params.kv_dtype == "bf16" and facts.kv_scales:
        raise ConfigError(
            "engine.kv_dtype",
            "bf16",
            "auto or fp8: TensorRT-LLM takes FP8 where the checkpoint has scales for it",
            "leave it out, or quantize with quantize.kv_cache=none",
        )
    document: dict[str, Any] = {
        "max_batch_size": limits.slots,
        "max_num_tokens": limits.batched_tokens,
        "max_seq_len": limits.context,
        "tensor_parallel_size": limits.tensor_parallel,
        "pipeline_parallel_size": limits.pipeline_parallel,
        "enable_chunked_prefill": (limits.batched_tokens or 0) < limits.context,
        "enable_autotuner": params.autotune,
        "kv_cache_config": {
            "dtype": "fp8" if limits.kv_dtype == "fp8" else "auto",
            "max_tokens": kv_tokens(plan, facts),
            "free_gpu_memory_fraction": memory_fraction(plan, target),
        },
        "cuda_graph_config": {"batch_sizes": limits.graph_sizes, "enable_padding": True}
        if limits.graph_sizes
        else None,
    }
    if facts.experts and sm in _SM12X:
        document["moe_config"] = {"backend": "CUTLASS"}
    return document


def kv_tokens(plan: GpuPlan, facts: ModelFacts) -> int | None:
    """Tokens that the planned bytes hold, whole blocks; None where nobody knows what a token takes."""
    if isinstance(facts.caches, CheckpointError):
        return None
    of_token = token_bytes(facts.caches, plan.limits)
    return max(BLOCK, int((plan.limits.kv_bytes or 0) / of_token) // BLOCK * BLOCK) if of_token else None


def memory_fraction(plan: GpuPlan, target: TargetConfig) -> float:
    """Share of the memory that is free once the weights are loaded, in hundredths."""
    kv = plan.memory["kv_cache"]
    left = budget(target) - (plan.total - kv)
    return min(LARGEST_FRACTION, max(0.01, round(kv / left * _MARGIN + 0.005, 2)))


def with_options(document: dict[str, Any], own: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The YAML with `engine.options` over it. Raises ConfigError for a key that another key of the config decides."""
    merged = dict(document)
    for key, value in own.items():
        name = f"{place}{key}"
        if name in DECIDED_KEYS:
            decides = DECIDED_KEYS[name]
            step = f"set {decides} instead" if decides else "leave it out"
            raise ConfigError(f"engine.options.{name}", value, "a key that no key of the config decides", step)
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict | None):
            merged[key] = with_options(below or {}, value, f"{name}.")
        else:
            _refuse_replaced(name, value)
            merged[key] = value
    return merged


def _refuse_replaced(name: str, value: Any) -> None:
    """A whole section in place of one that holds decided keys would drop them."""
    if decided := [key for key in DECIDED_KEYS if key.startswith(f"{name}.")]:
        raise ConfigError(
            f"engine.options.{name}", value, "a mapping of keys", f"set {DECIDED_KEYS[decided[0]]} instead"
        )
