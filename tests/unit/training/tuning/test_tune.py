"""From a config to a tuned train row: what is refused, what is written, and that it loads as it was meant."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from slipway.config.load import load_config
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.planning.training_memory import memory_plan
from slipway.training.tuning.search import SearchResult
from slipway.training.tuning.setting import Setting
from slipway.training.tuning.tune import (
    TuneRequest,
    activation_bytes,
    one_gpu,
    search_report,
    search_settings,
    setting_of,
    train_row,
    tune,
    tuned_params,
)
from tests.support.simulated_h100 import SimulatedH100, documents

ROOT = Path(__file__).resolve().parents[4]
QLORA = ["layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100", "layers.model=models/llama-3.3-70b"]


def searched() -> SearchResult:
    """A search on the simulated H100, whose clock is not the wall's: the deadline never comes."""
    machine = SimulatedH100(74e9)
    config = load_config(ROOT / "conf", QLORA)
    return search_settings(machine, config, documents(), 74e9, math.inf, lambda _: None, 8192)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["layers.train=train/nemo-lora", "layers.model=models/llama-3.3-70b"], "141 GB of weights"),
        (["layers.train=train/nemo-qlora", "layers.target=targets/local"], "a target with a GPU"),
        (["layers.train=train/qlora-cpu"], "backend cpu"),
        (["layers.train=train/nemo-lora", "train.tensor_parallel=2"], "a replica over 2 GPUs"),
        (["layers.train=train/nemo-lora", "train.activation_checkpointing=selective"], "selective with method=lora"),
    ],
)
def test_what_one_gpu_cannot_show_is_refused_before_anything_starts(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    config = load_config(ROOT / "conf", ["layers.target=targets/dgx-h100", *overrides])
    with pytest.raises(ConfigError, match=message):
        tune(TuneRequest(config, tmp_path, tmp_path, here=True), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_search_ends_with_a_setting_that_beats_the_baseline_and_fits() -> None:
    outcome = searched()
    assert outcome.baseline.setting == setting_of(load_config(ROOT / "conf", QLORA).train)
    assert outcome.gain > 1.5 and outcome.best.reserved <= 74e9
    assert max(r.setting.pack_length for r in outcome.results) <= 8192


def test_lora_is_never_probed_with_the_recomputation_that_its_rules_refuse() -> None:
    row = ["layers.train=train/nemo-lora", "layers.target=targets/dgx-h100", "layers.model=models/llama-3.3-70b"]
    config, machine = load_config(ROOT / "conf", row), SimulatedH100(74e9)
    outcome = search_settings(machine, config, documents(), 74e9, math.inf, lambda _: None, 8192)
    assert {r.setting.checkpointing for r in outcome.results} == {"none", "full"}
    assert "selective" in {r.setting.checkpointing for r in searched().results}


def test_the_tuned_row_keeps_the_tokens_of_a_step_and_loads_as_it_was_meant() -> None:
    params = TrainConfig.model_validate({"backend": "nemo", "global_batch": 32})
    changed = tuned_params(params, Setting(4096, 2, "none", "sdpa", "chunked"), ranks=8)
    assert changed.global_batch * changed.pack_length == params.global_batch * params.pack_length
    assert changed.global_batch % (2 * 8) == 0
    assert tuned_params(params, Setting(16384, 8, "none"), ranks=8).global_batch == 64
    outcome, config = searched(), load_config(ROOT / "conf", QLORA)
    written = yaml.safe_load(train_row(outcome, config, 8))
    assert "by slipway tune on simulated" in written.pop("description")
    loaded = TrainConfig.model_validate(written)
    assert loaded == tuned_params(config.train, outcome.best.setting, 8)
    assert loaded.activation_checkpointing == outcome.best.setting.checkpointing


def test_the_report_holds_every_probe_and_adds_up() -> None:
    outcome = searched()
    report = search_report(outcome)
    assert len(report["probes"]) == len(outcome.results) and report["probes"][0] == report["baseline"]
    assert report["gain"] == pytest.approx(
        report["best"]["tokens_per_s"] / report["baseline"]["tokens_per_s"], rel=0.01
    )
    assert report["total_s"] == pytest.approx(report["start_s"] + report["probing_s"], abs=0.2)
    assert set(report["best"]) >= {"pack_length", "micro_batch", "activation_checkpointing", "attention", "loss"}


def test_activations_are_the_planners_bytes_beyond_the_weights_on_one_gpu() -> None:
    config = load_config(ROOT / "conf", QLORA)
    setting = Setting(4096, 2, "full")
    plan = memory_plan(config.model, tuned_params(config.train, setting, 1), one_gpu(config.target))
    planned = activation_bytes(config.model, config.train, config.target, setting)
    assert planned == pytest.approx(plan.step - plan.weights)
    assert activation_bytes(config.model, config.train, config.target, Setting(4096, 4, "full")) > planned


def test_probes_run_in_a_container_where_training_does_and_never_with_here(tmp_path: Path) -> None:
    spark = load_config(ROOT / "conf", ["layers.train=train/nemo-qlora", "layers.target=targets/spark"])
    local = load_config(ROOT / "conf", ["layers.target=targets/local"])
    assert TuneRequest(spark, tmp_path, tmp_path).container
    assert not TuneRequest(spark, tmp_path, tmp_path, here=True).container
    assert not TuneRequest(local, tmp_path, tmp_path).container
