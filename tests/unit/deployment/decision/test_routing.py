"""Spark or DGX: each rule by itself, what cannot be told, and the config that comes out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.config.routing import Route, RoutingConfig
from slipway.deployment.decision.routing import Figures, figures_of, route, route_lines, routed
from slipway.errors import ConfigError
from tests.support.world import ROOT

CONF, LIMITS = ROOT / "conf", RoutingConfig()
SMALL = Figures(
    model_b=8,
    method="qlora",
    users=4,
    spark_users=40,
    training_hours=3,
    training_bytes=40e9,
    serving_bytes=12e9,
    spark_bytes=108e9,
    trains_on_spark=True,
    unknown={},
)


def says(chosen: Route) -> dict[str, str]:
    return {rule.rule: rule.says for rule in chosen.rules}


def test_a_small_model_of_few_users_is_the_spark_s() -> None:
    chosen = route(SMALL, LIMITS)
    assert (chosen.target, chosen.decided_by) == ("spark", "no rule asks for a DGX")
    assert set(says(chosen).values()) == {"spark"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"model_b": 121}, "model size"),
        ({"spark_users": 0}, "room for the model"),
        ({"users": 11}, "requests at once"),
        ({"users": 8, "spark_users": 7}, "requests at once"),
        ({"method": "sft", "model_b": 31}, "full fine-tuning"),
        ({"training_hours": 25}, "training time"),
        ({"training_bytes": 100e9}, "serving beside training"),
    ],
)
def test_each_rule_alone_asks_for_a_dgx(change: dict[str, float], rule: str) -> None:
    chosen = route(replace(SMALL, **change), LIMITS)
    assert (chosen.target, chosen.decided_by) == ("dgx-slurm", rule)
    assert [name for name, word in says(chosen).items() if word == "dgx"] == [rule]


@pytest.mark.parametrize(
    "change",
    [
        {"model_b": 120},
        {"users": 10},
        {"users": 5, "spark_users": 5},
        {"method": "sft", "model_b": 30},
        {"method": "lora", "model_b": 70},
        {"training_hours": 24},
        {"training_bytes": 100e9, "trains_on_spark": False},
    ],
)
def test_at_a_limit_it_is_still_the_spark_s(change: dict[str, float]) -> None:
    assert route(replace(SMALL, **change), LIMITS).target == "spark"


def test_what_was_not_measured_cannot_be_told_and_decides_nothing() -> None:
    blank = replace(SMALL, training_hours=None, spark_users=None, users=7, serving_bytes=None, unknown={})
    chosen = route(blank, LIMITS)
    assert chosen.target == "spark"
    unclear = {"room for the model", "requests at once", "training time", "serving beside training"}
    assert {name for name, word in says(chosen).items() if word == "cannot tell"} == unclear


def test_figures_of_a_config_say_where_they_are_from() -> None:
    config = load_config(CONF, ["layers.model=models/llama-3.3-70b", "layers.target=targets/spark"])
    spark = config.target
    figures = figures_of(config, spark, {"seconds": 7200})
    assert (figures.model_b, figures.training_hours, figures.trains_on_spark) == (70.55, 2.0, True)
    assert figures.spark_users is not None
    assert figures.spark_users > 8
    elsewhere = figures_of(load_config(CONF), spark, {"seconds": 7200})
    assert elsewhere.training_hours is None
    assert "which is no Spark" in elsewhere.unknown["training_hours"]
    assert "no training" in figures_of(config, spark, None).unknown["training_hours"]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of the shipped config."""
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def test_auto_becomes_the_row_that_was_chosen_with_its_reasons(conf: Path) -> None:
    config = routed(load_config(conf, ["layers.deploy=deploy/auto", "engine.slots=64"]), conf)
    assert (config.deploy.target, config.deploy.kind) == ("dgx-slurm", "slurm")
    assert config.serving.name == "dgx-h100"
    assert config.deploy.routed is not None
    assert config.deploy.routed.decided_by == "requests at once"
    few = routed(load_config(conf, ["layers.deploy=deploy/auto", "engine.slots=2"]), conf)
    assert (few.deploy.target, few.deploy.kind) == ("spark", "spark")


def test_what_was_set_beside_auto_holds_on_the_target_that_is_chosen(conf: Path) -> None:
    """A canary or a policy that was asked for is not lost because the rules named the target."""
    words = ["layers.deploy=deploy/auto", "engine.slots=64", "deploy.canary.way=weight", "deploy.policy=ask"]
    config = routed(load_config(conf, [*words, "deploy.routing.many_users=20"]), conf)
    row = load_config(conf, ["layers.deploy=deploy/dgx-slurm"]).deploy
    assert (config.deploy.target, config.deploy.canary.way, config.deploy.policy) == ("dgx-slurm", "weight", "ask")
    assert config.deploy.routing.many_users == 20 and config.deploy.canary.for_s == row.canary.for_s
    assert (config.deploy.root, config.deploy.kind, config.deploy.proxy) == (row.root, row.kind, row.proxy)
    assert config.deploy.routed is not None and config.deploy.routed.target == "dgx-slurm"


def test_a_named_target_is_left_alone(conf: Path) -> None:
    config = load_config(conf)
    assert routed(config, conf) is config


def test_a_target_without_a_row_is_named(conf: Path) -> None:
    (conf / "deploy/dgx-slurm.yaml").unlink()
    with pytest.raises(ConfigError, match="dgx-slurm"):
        routed(load_config(conf, ["layers.deploy=deploy/auto", "engine.slots=64"]), conf)


def test_lines_name_the_target_and_every_rule() -> None:
    lines = route_lines(route(replace(SMALL, users=11), LIMITS))
    assert lines[0] == "target dgx-slurm, decided by: requests at once"
    assert len(lines) == 7
    assert route_lines(None) == []
