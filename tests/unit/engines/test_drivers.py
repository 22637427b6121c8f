from __future__ import annotations

import typing

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.drivers import driver_for
from slipway.errors import ConfigError


def test_every_kind_of_the_config_has_a_driver_of_that_kind() -> None:
    for kind in typing.get_args(EngineConfig.model_fields["kind"].annotation):
        assert driver_for(kind).kind == kind


def test_another_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="sglang"):
        driver_for("sglang")
