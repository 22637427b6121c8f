"""Figures of stages that were never made here, against what such stages took: the embedded model's artifacts, and
training rates that were measured on one H100 (docs/plan.md)."""

from __future__ import annotations

import pytest

from slipway.config.load import Config, load_config
from slipway.ops.chain import calls
from slipway.ops.chain.first_run import first_figures, flops_a_token, share_of_peak, training_seconds
from slipway.pipeline.stage import Work

MB = 1e6
# What the stages of the embedded model wrote, by their manifests
WROTE = {"fetch": 272.585, "train_cpu": 11.776, "quantize": 120.015, "engine": 131.008}
TITLES = {"train_cpu": "train", "engine": "engine candidate"}


def before(stage: str, config: Config, machine: str = ""):
    title = TITLES.get(stage, stage)
    return first_figures(stage, calls.work_before(config, title), {}, config, machine)


@pytest.mark.parametrize("stage", list(WROTE))
def test_disk_of_the_embedded_chain_before_anything_is_there(stage: str) -> None:
    off = (
        0.035 if stage in ("quantize", "engine") else 0.01
    )  # the tokenizer's size is a rule of thumb until it is there
    assert before(stage, load_config()).disk_bytes / MB == pytest.approx(WROTE[stage], rel=off)


@pytest.mark.parametrize(
    ("model", "method", "checkpointing", "length", "rate"),
    [
        ("llama-3.1-8b", "qlora", "full", 2048, 3649),
        ("llama-3.1-8b", "lora", "full", 2048, 4922),
        ("llama-3.1-8b", "qlora", "none", 2048, 5353),
        ("llama-3.3-70b", "qlora", "full", 2048, 963),
        ("llama-3.3-70b", "qlora", "full", 4096, 1022),
    ],
)
def test_training_rates_of_an_h100_within_a_quarter(
    model: str, method: str, checkpointing: str, length: int, rate: float
) -> None:
    words = [f"layers.model=models/{model}", "layers.train=train/nemo-qlora", f"train.method={method}"]
    target = load_config(overrides=["layers.target=targets/dgx-h100"]).target.model_copy(update={"gpus": 1})
    config = load_config(overrides=[*words, f"train.activation_checkpointing={checkpointing}"])
    seconds = training_seconds(config.model, config, target, tokens=1e6)
    assert 1e6 / seconds == pytest.approx(rate, rel=0.25), length


def test_the_share_of_the_peak_stays_between_what_was_measured() -> None:
    assert share_of_peak(0.1) == pytest.approx(0.19) and share_of_peak(400) == pytest.approx(0.42)
    assert 0.19 < share_of_peak(30) < 0.42


def test_a_mixture_computes_with_its_active_parameters() -> None:
    mixture = load_config(overrides=["layers.model=models/qwen3-30b-a3b"]).model
    assert flops_a_token(mixture, "lora", "none") == 4 * 3.35e9
    assert flops_a_token(mixture, "sft", "full") == 8 * 3.35e9


def test_a_gpu_whose_peak_nobody_wrote_down_has_no_time() -> None:
    config = load_config()
    assert training_seconds(config.model, config, config.target, 1e6) == 0.0


def test_a_run_on_record_is_scaled_by_amount_and_cpus_and_memory_only_near_it() -> None:
    config = load_config()
    group = calls.work_before(config, "quantize").group
    here, twice = (first_figures("quantize", Work(group, n, "parameters"), {}, config, "a, 2 CPUs") for n in (1e8, 4e8))
    assert twice.seconds == pytest.approx(4 * here.seconds) and here.peak_bytes == 1e9 and twice.peak_bytes == 0
    assert first_figures("quantize", Work(group, 70e9, "parameters"), {}, config, "a, 2 CPUs").seconds == 0
    many = first_figures("quantize", Work(group, 1e8, "parameters"), {}, config, "b, 64 CPUs")
    assert many.seconds == pytest.approx(here.seconds / 8)


def test_nothing_is_said_of_a_stage_without_a_formula() -> None:
    assert before("gate", load_config()) is None
