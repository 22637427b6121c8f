"""Options of vLLM's server, each from the limit or key that decides it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.contract import load_contract
from slipway.engines.driver import Limits
from slipway.engines.gpu_limits import GpuPlan
from slipway.engines.vllm.serve_config import DECIDED, memory_share, serve_options
from tests.support.engine_models import target

CONTRACT = load_contract("vllm", "0.26.0")
LIMITS = Limits(context=4096, slots=8, batched_tokens=4096, kv_bytes=10**9, kv_dtype="bf16", graph_sizes=[1, 2, 4, 8])
MEMORY = {"weights": 16e9, "kv_cache": 4e9, "compute": 1e9, "process": 2.5e9}


def options(limits: Limits = LIMITS, **keys: Any) -> dict[str, Any]:
    params = EngineConfig(kind="vllm", image="vllm", **keys)
    return serve_options(GpuPlan(limits, MEMORY, ()), params, "slipway", 0.3)


def test_every_limit_is_an_option() -> None:
    chosen = options(drain_s=45)
    assert chosen["--max-model-len"] == 4096
    assert chosen["--max-num-seqs"] == 8
    assert chosen["--kv-cache-memory-bytes"] == 10**9
    assert chosen["--cudagraph-capture-sizes"] == [1, 2, 4, 8]
    assert chosen["--generation-config"] == "vllm"
    assert chosen["--shutdown-timeout"] == 45
    assert "--tensor-parallel-size" not in chosen
    assert "--quantization" not in chosen


def test_the_start_up_check_asks_for_what_is_planned_and_for_little_on_unified_memory() -> None:
    plan = GpuPlan(LIMITS, MEMORY, ())
    assert memory_share(plan, target("dgx-h100")) == 0.30  # 23.5 of 80 GB
    assert memory_share(plan, target("spark")) == 0.1


@pytest.mark.parametrize(
    ("kv_dtype", "key", "word"),
    [("bf16", "auto", "auto"), ("bf16", "bf16", "bfloat16"), ("fp8", "auto", "fp8_e4m3"), ("fp8", "fp8", "fp8_e4m3")],
)
def test_bf16_that_was_asked_for_is_not_left_to_the_checkpoint(kv_dtype: str, key: str, word: str) -> None:
    assert options(LIMITS.model_copy(update={"kv_dtype": kv_dtype}), kv_dtype=key)["--kv-cache-dtype"] == word


def test_no_graphs_is_eager() -> None:
    chosen = options(LIMITS.model_copy(update={"graph_sizes": []}))
    assert chosen["--enforce-eager"] is True
    assert "--cudagraph-capture-sizes" not in chosen


def test_parallel_sizes_are_named_where_they_are_not_one() -> None:
    chosen = options(LIMITS.model_copy(update={"tensor_parallel": 2, "pipeline_parallel": 4}))
    assert (chosen["--tensor-parallel-size"], chosen["--pipeline-parallel-size"]) == (2, 4)


def test_what_a_key_decides_is_an_option_of_the_contract() -> None:
    assert {CONTRACT.canonical(name) for name in DECIDED} == set(DECIDED)
