"""The options of `vllm serve`, from limits and config.

`--kv-cache-memory-bytes` gives the KV cache its planned bytes and skips the profiling that counts page cache as model
memory. The start-up check still wants `--gpu-memory-utilization` of all memory free: it is set to what is planned, and
low on unified memory, where CUDA calls page cache occupied. `--generation-config vllm` keeps a model's own sampling
settings out of greedy answers. A detected quantization needs no option.
"""

from __future__ import annotations

import math
from typing import Any

from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.gpu_limits import GpuPlan

UNIFIED_SHARE = 0.1
# Option -> key of the config that decides it; '' where every start does
DECIDED = {
    "--model": "",
    "--host": "",
    "--port": "",
    "--served-model-name": "",
    "--max-model-len": "engine.context",
    "--max-num-seqs": "engine.slots",
    "--max-num-batched-tokens": "engine.batched_tokens",
    "--kv-cache-memory-bytes": "engine.kv_gb",
    "--kv-cache-dtype": "engine.kv_dtype",
    "--cudagraph-capture-sizes": "engine.graph_sizes",
    "--max-cudagraph-capture-size": "engine.graph_sizes",
    "--enforce-eager": "engine.graph_sizes=[]",
    "--tensor-parallel-size": "engine.tensor_parallel",
    "--pipeline-parallel-size": "engine.pipeline_parallel",
    "--shutdown-timeout": "engine.drain_s",
}


def serve_options(plan: GpuPlan, params: EngineConfig, alias: str, share: float) -> dict[str, Any]:
    """Option -> value, in the order of the command line, with the places that a start fills in. `share`: of a GPU's
    memory, see `memory_share`."""
    limits = plan.limits
    options: dict[str, Any] = {
        "--model": "{model}",
        "--served-model-name": [alias],
        "--host": "{host}",
        "--port": "{port}",
        "--max-model-len": limits.context,
        "--max-num-seqs": limits.slots,
        "--max-num-batched-tokens": limits.batched_tokens,
        "--kv-cache-memory-bytes": limits.kv_bytes,
        "--kv-cache-dtype": _kv_word(limits.kv_dtype, params),
        "--gpu-memory-utilization": share,
        "--generation-config": "vllm",
        "--shutdown-timeout": params.drain_s,
    }
    options |= {"--cudagraph-capture-sizes": limits.graph_sizes} if limits.graph_sizes else {"--enforce-eager": True}
    if limits.tensor_parallel > 1:
        options["--tensor-parallel-size"] = limits.tensor_parallel
    if limits.pipeline_parallel > 1:
        options["--pipeline-parallel-size"] = limits.pipeline_parallel
    return options


def _kv_word(kv_dtype: str, params: EngineConfig) -> str:
    """`auto` takes FP8 of a checkpoint that has scales for it: bf16 that somebody asked for is said outright."""
    if kv_dtype == "fp8":
        return "fp8_e4m3"
    return "bfloat16" if params.kv_dtype == "bf16" else "auto"


def memory_share(plan: GpuPlan, target: TargetConfig) -> float:
    """Share of a GPU's memory that must be free at the start, in hundredths."""
    planned = math.ceil(100 * plan.total / ((target.gpu_memory_gb or 1) * 1e9)) / 100
    return min(planned, UNIFIED_SHARE) if target.unified_memory else planned
