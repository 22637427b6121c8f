"""What llama.cpp's driver plans; tests/lab builds and serves for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.engines.llamacpp.driver import DRIVER
from slipway.errors import ConfigError, EngineError


def test_the_settings_are_in_the_plan(tmp_path: Path) -> None:
    plan = DRIVER.plan(tmp_path, EngineConfig(context=2048, slots=3, threads=2), TargetConfig(name="here"))
    assert (plan.kind, plan.target, plan.image) == ("llama.cpp", "here", None)
    assert (plan.limits.context, plan.limits.slots) == (2048, 3)
    assert str(2048 * 3) in plan.argv


def test_a_machine_that_it_is_not_compiled_for_is_refused(tmp_path: Path) -> None:
    target = TargetConfig(name="spark", runner=DockerConfig(kind="docker"))
    with pytest.raises(ConfigError, match="spark: a docker runner"):
        DRIVER.plan(tmp_path, EngineConfig(), target)


def test_a_model_that_it_computes_otherwise_is_refused_before_it_is_converted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mistral", "sliding_window": 4096}')
    assert DRIVER.plan(tmp_path, EngineConfig(context=4096), TargetConfig()).notes == []
    with pytest.raises(EngineError, match="sliding_window=4096"):
        DRIVER.plan(tmp_path, EngineConfig(context=8192), TargetConfig())
