"""How fast a GPU engine will be and how long it starts, before it was ever built: by formula.

    decode     share x bandwidth x GPUs / bytes that one step reads (`planning/roofline.py`): the head, all matrices,
               or in a mixture those of the experts that a token passes through. `share`: 0.67 dense, 0.34 a mixture,
               from two figures that users of a Spark published (Llama-3.3-70B NVFP4 4.51 tokens/s, Qwen3-30B-A3B NVFP4
               39.5): fitted on them, so they show nothing
    first token   2 x active parameters x tokens of the prompt / (0.4 x dense bf16 peak), prefill being bound by compute
               (Pope et al. 2022, arXiv:2211.05102), and one step; the share is an assumption
    start      cold: 110 s of process, compilation and warm-up, and the weights at 2 GB/s; warm: 48 s and the weights.
               vLLM 0.26 on an H200, 8B, one run each: 113 s, 51 and 45 s

0 where there is no formula: an engine whose start nobody here measured, a GPU without bandwidth or peak on record.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.planning.peaks import PEAKS
from slipway.planning.serving_capacity import FORMAT_BYTES, Capacity
from slipway.planning.training_memory import embedding_parameters

DENSE_SHARE, MIXTURE_SHARE, PREFILL_SHARE = 0.67, 0.34, 0.4
STARTS = {"vllm": (110.0, 48.0)}  # seconds beside the weights: cold, warm
LOAD_BYTES_S = 2e9
BF16_BYTES = 2.0


@dataclass(frozen=True)
class ServingForecast:
    """One GPU's bytes by what takes them; tokens a second of one request and seconds until its first, with half of
    `context` as prompt; seconds of a start."""

    weights: float
    kv_cache: float
    compute: float
    tokens_per_s: float
    first_token_s: float
    start_cold_s: float
    start_warm_s: float


def serving_forecast(
    model: ModelConfig, weights: str, engine: str, context: int, target: TargetConfig, plan: Capacity
) -> ServingForecast:
    """`weights`: one of FORMAT_BYTES; `plan`: the same model's memory there (`planning/serving_capacity.py`)."""
    gpus = plan.wish.tensor_parallel
    step = step_bytes(model, weights) + plan.token * gpus * context / 2
    share = MIXTURE_SHARE if model.experts else DENSE_SHARE
    tokens_per_s = share * (target.bandwidth_gb_s or 0.0) * 1e9 * gpus / step
    peak = PEAKS.get(target.compute_capability or "", 0.0) * gpus * PREFILL_SHARE
    first = context / 2 * 2 * _active(model) / peak + 1 / tokens_per_s if peak and tokens_per_s else 0.0
    cold, warm = STARTS.get(engine, (0.0, 0.0))
    load = plan.weights / LOAD_BYTES_S
    return ServingForecast(
        plan.weights,
        plan.request * plan.wish.users,
        plan.compute,
        tokens_per_s,
        first,
        cold + load if cold else 0.0,
        warm + load if warm else 0.0,
    )


def step_bytes(model: ModelConfig, weights: str) -> float:
    """Bytes of weights that one decoding step of one request reads: of the embedding one row, of the head all."""
    head = model.vocabulary * model.hidden
    return (_active(model) - embedding_parameters(model)) * FORMAT_BYTES[weights] + head * BF16_BYTES


def _active(model: ModelConfig) -> float:
    return (model.active_b or model.parameters_b) * 1e9
