"""Which of the stage's params decide a bundle; tests/lab builds and serves for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.load import load_config, parse
from slipway.config.target import DockerConfig, TargetConfig
from slipway.errors import ConfigError
from slipway.stages.engine import EngineParams, params_of
from slipway.stages.evaluate import EvaluateParams

SPARK = TargetConfig(name="spark", gpus=1, runner=DockerConfig(kind="docker", host="ssh://me@spark"))


def test_the_embedded_engines_bundle_is_keyed_by_its_section_alone() -> None:
    assert EngineParams(serving=SPARK).key_document() == EngineConfig().key_document()


def test_another_engines_bundle_is_keyed_by_the_machine_and_not_by_the_way_to_it() -> None:
    document = EngineParams(kind="vllm", python="python3", serving=SPARK).key_document()
    assert document["serving"]["name"] == "spark"
    moved = SPARK.model_copy(update={"runner": DockerConfig(kind="docker", host="ssh://me@10.0.0.7")})
    assert EngineParams(kind="vllm", python="python3", serving=moved).key_document() == document
    bigger = SPARK.model_copy(update={"gpu_memory_gb": 200.0})
    assert EngineParams(kind="vllm", python="python3", serving=bigger).key_document() != document


def test_where_an_engine_is_asked_decides_no_answer() -> None:
    assert EvaluateParams(serving=SPARK).key_document() == EvaluateParams().key_document()


def test_a_run_serves_where_the_config_says() -> None:
    config = load_config(Path("conf"), ["engine.kind=vllm", "engine.image=vllm", "layers.serving=targets/spark"])
    params = params_of(config)
    assert params.serving == config.serving
    assert params.serving_image == config.images["vllm"]
    with pytest.raises(ConfigError, match=r"engine\.image: mine"):
        params_of(parse({"engine": {"kind": "vllm", "image": "mine"}}, "test"))
