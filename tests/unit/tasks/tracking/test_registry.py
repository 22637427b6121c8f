"""The registry's alias, without MLflow; the flow room proves the rest with a real one."""

from __future__ import annotations

from slipway.config.load import Config
from tasks.tracking.registry import alias


def test_alias_follows_the_policy_file() -> None:
    assert alias(Config()) == "local-champion"
