"""TensorRT-LLM's YAML and options, each key from the limit, model or target that decides it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.contract import load_contract, versions
from slipway.engines.driver import Limits
from slipway.engines.gpu_limits import GpuPlan
from slipway.engines.model_facts import ModelFacts
from slipway.engines.trtllm.serve_config import (
    DECIDED,
    DECIDED_KEYS,
    kv_tokens,
    memory_fraction,
    serve_document,
    serve_options,
    with_options,
)
from slipway.errors import ConfigError
from slipway.planning.kv_cache import LayerCache, UnknownCacheError
from tests.support.engine_models import target

FACTS = ModelFacts(
    architecture="Qwen3MoeForCausalLM",
    formats=("nvfp4",),
    layout="modelopt",
    weight_bytes=17 * 10**9,
    heads=32,
    kv_heads=4,
    layers=48,
    hidden=2048,
    inner=6144,
    vocabulary=151_936,
    caches=(LayerCache(layers=48, heads=4, width=256),),
    longest=40_960,
    experts=128,
    kv_scales=False,
    chat_template=True,
)
LIMITS = Limits(
    context=16_384, slots=8, batched_tokens=8192, kv_bytes=98_304 * 131_136, kv_dtype="bf16", graph_sizes=[1, 2, 4, 8]
)
MEMORY = {"weights": 17e9, "kv_cache": 98_304.0 * 131_136, "compute": 1e9, "process": 2.5e9}
SPARK, B200 = target("spark"), target("dgx-b200")


def document(facts: ModelFacts = FACTS, limits: Limits = LIMITS, sm: int = 121, **keys: Any) -> dict[str, Any]:
    params = EngineConfig(kind="trtllm", image="trtllm", **keys)
    return serve_document(GpuPlan(limits, MEMORY, ()), facts, params, SPARK, sm)


def test_limits_stand_in_the_yaml_and_on_the_command_line() -> None:
    options, keys = serve_options(LIMITS, SPARK), document()
    for name in ("max_batch_size", "max_num_tokens", "max_seq_len", "tensor_parallel_size", "pipeline_parallel_size"):
        assert options[f"--{name}"] == keys[name]
    assert (keys["max_batch_size"], keys["max_num_tokens"], keys["max_seq_len"]) == (8, 8192, 16_384)
    assert keys["enable_chunked_prefill"] is True
    assert document(limits=LIMITS.model_copy(update={"context": 4096}))["enable_chunked_prefill"] is False


def test_the_kv_cache_is_given_in_tokens_and_bounded_by_a_fraction() -> None:
    plan = GpuPlan(LIMITS, MEMORY, ())
    assert kv_tokens(plan, FACTS) == 131_136
    shared = GpuPlan(LIMITS.model_copy(update={"tensor_parallel": 8}), MEMORY, ())
    assert kv_tokens(shared, FACTS) == 4 * 131_136  # four heads, on eight GPUs each twice
    unknown = replace(FACTS, caches=UnknownCacheError("KV cache", "cannot tell", "known", "ask"))
    assert kv_tokens(plan, unknown) is None
    fraction = memory_fraction(plan, SPARK)
    left = (SPARK.gpu_memory_gb or 0) * 1e9 - SPARK.reserve_gb * 1e9 - 20.5e9
    assert MEMORY["kv_cache"] < fraction * left < 1.4 * MEMORY["kv_cache"]
    assert document()["kv_cache_config"] == {
        "dtype": "auto",
        "max_tokens": 131_136,
        "free_gpu_memory_fraction": fraction,
    }
    assert document(limits=LIMITS.model_copy(update={"kv_dtype": "fp8"}))["kv_cache_config"]["dtype"] == "fp8"


def test_experts_run_in_cutlass_where_the_other_kernels_do_not() -> None:
    assert document()["moe_config"] == {"backend": "CUTLASS"}
    assert "moe_config" not in document(sm=100)
    assert "moe_config" not in document(replace(FACTS, experts=0))


def test_graphs_and_tuning_are_switches() -> None:
    assert document()["cuda_graph_config"] == {"batch_sizes": [1, 2, 4, 8], "enable_padding": True}
    assert document(limits=LIMITS.model_copy(update={"graph_sizes": []}))["cuda_graph_config"] is None
    assert document(autotune=False)["enable_autotuner"] is False


def test_bf16_beside_the_checkpoint_s_fp8_scales_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine\.kv_dtype: bf16"):
        document(replace(FACTS, kv_scales=True), kv_dtype="bf16")


def test_options_of_one_s_own_go_over_ours() -> None:
    merged = with_options(document(), {"kv_cache_config": {"enable_block_reuse": False}, "print_iter_log": True})
    assert merged["kv_cache_config"] == {**document()["kv_cache_config"], "enable_block_reuse": False}
    assert merged["print_iter_log"] is True
    assert with_options(document(), {"moe_config": {"backend": "TRITON"}})["moe_config"] == {"backend": "TRITON"}


@pytest.mark.parametrize(
    ("own", "step"),
    [
        ({"max_seq_len": 1}, "set engine.context instead"),
        ({"kv_cache_config": {"dtype": "fp8"}}, "set engine.kv_dtype instead"),
        ({"kv_cache_config": None}, "set engine.kv_dtype instead"),
        ({"cuda_graph_config": None}, "set engine.graph_sizes instead"),
        ({"model": "x"}, "leave it out"),
    ],
)
def test_what_a_key_of_the_config_decides_is_not_given_twice(own: dict[str, Any], step: str) -> None:
    with pytest.raises(ConfigError) as refused:
        with_options(document(), own)
    assert refused.value.next_step == step


@pytest.mark.parametrize("version", versions("trtllm"))
def test_every_listed_release_has_every_option_and_key(version: str) -> None:
    contract = load_contract("trtllm", version)
    several = serve_options(LIMITS.model_copy(update={"tensor_parallel": 16}), B200)
    assert contract.argv(several)
    assert {contract.canonical(name) for name in DECIDED}
    assert contract.check_keys(document()) == []
    assert set(several) <= set(DECIDED)
    nested = {key.partition(".")[0] for key in DECIDED_KEYS}
    assert nested <= set(contract.keys)
