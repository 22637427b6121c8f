"""Speed and start of an engine before it is built, beside what users of a Spark published and our own starts."""

from __future__ import annotations

import pytest

from slipway.config.load import load_config
from slipway.planning.serving_capacity import Wish, model_of_row, serving_capacity
from slipway.planning.serving_forecast import ServingForecast, serving_forecast, step_bytes


def forecast(model: str, target: str = "spark", engine: str = "vllm", context: int = 1024) -> ServingForecast:
    config = load_config(overrides=[f"layers.model=models/{model}", f"layers.target=targets/{target}"])
    plan = serving_capacity(model_of_row(config.model, "nvfp4"), Wish(4, context), config.target)
    return serving_forecast(config.model, "nvfp4", engine, context, config.target, plan)


@pytest.mark.parametrize(("model", "rate"), [("llama-3.3-70b", 4.51), ("qwen3-30b-a3b", 39.5)])
def test_decoding_on_a_spark_dense_and_mixture(model: str, rate: float) -> None:
    assert forecast(model).tokens_per_s == pytest.approx(rate, rel=0.15)


def test_a_longer_context_reads_more_and_answers_later() -> None:
    short, long = forecast("llama-3.1-8b"), forecast("llama-3.1-8b", context=32768)
    assert long.tokens_per_s < short.tokens_per_s and long.first_token_s > 20 * short.first_token_s
    assert long.kv_cache > short.kv_cache and long.weights == short.weights


def test_a_start_is_vllms_and_of_no_other() -> None:
    vllm = forecast("llama-3.1-8b", "dgx-h100")
    assert vllm.start_cold_s == pytest.approx(113.2, rel=0.05) and vllm.start_warm_s == pytest.approx(48, rel=0.1)
    assert forecast("llama-3.1-8b", "dgx-h100", "trtllm").start_cold_s == 0


def test_the_head_is_read_whole_and_the_embedding_is_not() -> None:
    model = load_config(overrides=["layers.model=models/llama-3.1-8b"]).model
    assert step_bytes(model, "bf16") == pytest.approx((8.03e9 - 128256 * 4096) * 2)
