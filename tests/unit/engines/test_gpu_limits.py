"""Limits and memory of a GPU engine: by the formulas, within the target, refused with figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.gpu_limits import PROCESS_BYTES, budget, graph_sizes, plan_limits, step_tokens
from slipway.engines.model_facts import ModelFacts
from slipway.errors import CheckpointError, ConfigError, ResourceError
from slipway.planning.kv_cache import LayerCache, UnknownCacheError
from slipway.planning.serving_capacity import ServedModel, Wish, serving_capacity
from tests.support.engine_models import target

# Llama 3.1 8B in bf16
LLAMA = ModelFacts(
    architecture="LlamaForCausalLM",
    formats=("bf16",),
    layout="plain",
    weight_bytes=16_060_522_496,
    heads=32,
    kv_heads=8,
    layers=32,
    hidden=4096,
    inner=14336,
    vocabulary=128_256,
    caches=(LayerCache(layers=32, heads=8, width=256),),
    longest=131_072,
    experts=0,
    kv_scales=False,
    chat_template=True,
)
SPARK, H100 = target("spark"), target("dgx-h100")


def engine(**keys: Any) -> EngineConfig:
    return EngineConfig(kind="vllm", image="vllm", **keys)


def test_the_kv_cache_holds_every_slot_s_whole_context() -> None:
    plan = plan_limits(LLAMA, engine(slots=16, context=8192), SPARK)
    # 131,072 bytes a token in bf16, 16 requests of 8,192 tokens, and a block
    assert plan.limits.kv_bytes == 131_072 * (16 * 8192 + 64)
    assert plan.memory["weights"] == LLAMA.weight_bytes
    assert plan.memory["process"] == PROCESS_BYTES
    assert plan.total == sum(plan.memory.values()) <= budget(SPARK)


def test_fp8_halves_it_and_is_taken_where_the_checkpoint_has_scales() -> None:
    full = plan_limits(LLAMA, engine(), SPARK).limits
    for facts, params in ((LLAMA, engine(kv_dtype="fp8")), (replace(LLAMA, kv_scales=True), engine())):
        limits = plan_limits(facts, params, SPARK).limits
        assert limits.kv_dtype == "fp8"
        assert limits.kv_bytes is not None and full.kv_bytes is not None
        assert limits.kv_bytes * 2 == full.kv_bytes
    assert plan_limits(replace(LLAMA, kv_scales=True), engine(kv_dtype="bf16"), SPARK).limits.kv_dtype == "bf16"


def test_the_fewest_gpus_that_fit_share_the_layers() -> None:
    cache = (LayerCache(80, 8, 256),)
    seventy = replace(LLAMA, weight_bytes=141_000_000_000, heads=64, layers=80, caches=cache)
    assert plan_limits(LLAMA, engine(), H100).limits.tensor_parallel == 1
    plan = plan_limits(seventy, engine(), H100)
    assert plan.limits.tensor_parallel == 4
    assert plan.memory["weights"] == 141e9 / 4


def test_key_value_heads_that_are_fewer_than_the_gpus_are_repeated() -> None:
    one, two, four = (
        plan_limits(replace(LLAMA, caches=(LayerCache(32, 2, 256),)), engine(tensor_parallel=n), H100).memory[
            "kv_cache"
        ]
        for n in (1, 2, 4)
    )
    assert two == four == pytest.approx(one / 2, rel=1e-6)


def test_what_does_not_fit_is_refused_with_the_users_that_do() -> None:
    with pytest.raises(ResourceError) as refused:
        plan_limits(LLAMA, engine(slots=64, context=131_072), SPARK)
    assert "kv_cache" in str(refused.value)
    assert "engine.slots=5" in refused.value.next_step
    plan_limits(LLAMA, engine(slots=5, context=131_072), SPARK)
    with pytest.raises(ResourceError, match="quantize to fewer bits"):
        plan_limits(replace(LLAMA, weight_bytes=141_000_000_000), engine(), SPARK)


def test_a_model_whose_cache_nobody_knows_needs_it_given() -> None:
    unknown = replace(LLAMA, caches=UnknownCacheError("KV cache of the model", "cannot tell: x", "known", "ask"))
    with pytest.raises(CheckpointError, match=r"cannot tell: x.*engine\.kv_gb"):
        plan_limits(unknown, engine(), SPARK)
    plan = plan_limits(unknown, engine(kv_gb=5), SPARK)
    assert (plan.limits.kv_bytes, plan.notes) == (5_000_000_000, ())


def test_a_given_kv_cache_says_how_many_wait() -> None:
    plan = plan_limits(LLAMA, engine(slots=16, context=8192, kv_gb=5), SPARK)
    assert plan.limits.kv_bytes == 5_000_000_000
    assert plan.notes == ("engine.kv_gb holds 4 requests of 8192 tokens at a time; others wait.",)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"context": 131_073}, "engine.context: 131073; expected at most the model's 131072"),
        ({"tensor_parallel": 3}, "engine.tensor_parallel: 3; expected a divisor of the 32 heads"),
        ({"tensor_parallel": 16}, "engine.tensor_parallel x engine.pipeline_parallel: 16 x 1; expected at most the 8"),
        ({"pipeline_parallel": 33}, "engine.pipeline_parallel: 33; expected at most 32 layers"),
        ({"batched_tokens": 4}, "engine.batched_tokens: 4; expected at least the 8 slots"),
    ],
)
def test_limits_that_contradict_the_model_or_target_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_limits(LLAMA, engine(**keys), H100)
    assert str(refused.value).startswith(message)


def test_a_target_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="target local: no GPU"):
        plan_limits(LLAMA, engine(), TargetConfig())


def test_a_scheduler_step_takes_a_whole_prompt_within_bounds() -> None:
    steps = [step_tokens(engine(context=n)) for n in (128, 2048, 4096, 32_768)]
    assert steps == [2048, 2048, 4096, 8192]
    assert step_tokens(engine(batched_tokens=512)) == 512


def test_graphs_are_powers_of_two_and_the_slots() -> None:
    assert graph_sizes(engine(slots=12)) == [1, 2, 4, 8, 12]
    assert graph_sizes(engine(slots=1)) == [1]
    assert graph_sizes(engine(graph_sizes=[])) == []
    assert graph_sizes(engine(graph_sizes=[8, 2, 8])) == [2, 8]


@pytest.mark.parametrize("keys", [{}, {"kv_dtype": "fp8"}, {"context": 1000}])
def test_slipway_capacity_and_the_engine_s_plan_say_the_same(keys: dict[str, Any]) -> None:
    """The users that fit are planned, one more is refused."""
    config = {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
    }
    keys = {"context": 8192, "kv_dtype": "bf16", **keys}
    model = ServedModel("llama", LLAMA.weight_bytes, config)
    users = serving_capacity(model, Wish(1, keys["context"], keys["kv_dtype"]), SPARK).users
    fitting = engine(**keys, slots=users)
    assert plan_limits(LLAMA, fitting, SPARK).limits.slots == users
    with pytest.raises(ResourceError):
        plan_limits(LLAMA, engine(**keys, slots=users + 1), SPARK)
