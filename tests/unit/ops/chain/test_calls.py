"""The calls of the chain: one place for what a run makes and what a plan says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.evaluate import EvaluateConfig
from slipway.config.load import Config
from slipway.config.train import TrainConfig
from slipway.ops.chain import calls
from tests.support.made_chain import PARAMETERS, make_chain


def test_the_trainer_is_the_backends(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    call = calls.train(config, made["base"], made["data"])
    assert (call.stage, call.title, call.stop_s) == ("train_cpu", "train", 120.0)
    nemo = config.model_copy(update={"train": TrainConfig.model_validate({"backend": "nemo"})})
    there = calls.train(nemo, made["base"], made["data"])
    assert (there.stage, there.title) == ("train_nemo", "train") and there.stop_s > 10


def test_work_grows_with_tokens_and_parameters(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    work = calls.train(config, made["base"], made["data"]).work
    steps = config.train.max_steps * config.train.micro_batch * config.train.accumulate * config.train.pack_length
    assert work and work.amount == PARAMETERS * min(1000 * config.train.epochs, steps)
    items = calls.evaluate(config, made["engine"], made["data"], None, "candidate", speed=True).work
    assert items and items.amount == PARAMETERS * 2, "two test rows, though four may be asked"


def test_a_champion_of_the_same_store_has_its_own_group(config: Config, tmp_path: Path) -> None:
    """Speed differs by the format that is served."""
    made = make_chain(config, tmp_path)
    groups = {
        of: calls.evaluate(config, made["engine"], made["data"], None, of, speed=False).work for of in ("base", "best")
    }
    assert groups["base"] and groups["best"] and groups["base"].group != groups["best"].group


def test_answers_for_a_probe_are_recorded_of_what_may_be_promoted(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    whole = config.model_copy(update={"evaluate": EvaluateConfig(probe_items=12)})
    recorded = {}
    for of in ("merged", "candidate", "champion"):
        call = calls.evaluate(whole, made["engine"], made["data"], None, of, speed=True)
        recorded[of] = call.params.model_dump()["probe_items"]
    assert recorded == {"merged": 0, "candidate": 12, "champion": 12}


@pytest.mark.parametrize("summary", ["{}", '{"train_tokens": 0}'])
def test_data_of_an_older_version_has_no_amount(config: Config, tmp_path: Path, summary: str) -> None:
    made = make_chain(config, tmp_path)
    (made["data"].path / "summary.json").write_text(summary)
    assert calls.train(config, made["base"], made["data"]).work is None
    assert calls.evaluate(config, made["engine"], made["data"], None, "base", speed=False).work is None
