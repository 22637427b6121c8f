"""Every kind of target that the config knows has a client, with the settings that its agent keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from slipway.agent.settings import parse_settings
from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.deployment.target import session, settings_of, target_for
from slipway.errors import ConfigError


def test_the_local_target_is_this_machine(tmp_path: Path) -> None:
    assert isinstance(target_for(DeployConfig(root=str(tmp_path))), LocalTarget)


def test_a_target_that_is_still_to_be_chosen_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"deploy\.target: auto"):
        target_for(DeployConfig(target="auto"))


def test_every_kind_of_the_config_has_a_client() -> None:
    sections: dict[str, Any] = {"spark": {"ssh": {"host": "spark", "user": "me"}}, "slurm": {"slurm": {}}}
    sections["kubernetes"] = {"kubernetes": {}}
    for kind in get_args(DeployConfig.model_fields["kind"].annotation):
        client = target_for(DeployConfig.model_validate({"kind": kind, **sections.get(kind, {})}))
        client.close()  # nothing was asked: nobody logged in


def test_the_agent_takes_the_settings_of_every_config(tmp_path: Path) -> None:
    settings = parse_settings(settings_of(DeployConfig(root=str(tmp_path), keep_releases=5)), "settings")
    assert (settings.host, settings.keep_releases, settings.start_timeout_s) == ("127.0.0.1", 5, None)


def test_a_transaction_that_a_session_leaves_open_ends_with_it(tmp_path: Path) -> None:
    params = DeployConfig(root=str(tmp_path / "target"))
    with pytest.raises(KeyboardInterrupt), session(params) as target:
        target.call("begin", {"action": "promote", "engine": "a" * 64})
        raise KeyboardInterrupt
    with session(params) as target:
        assert target.call("status", {})["lock"] is None
        assert target.call("status", {})["interrupted"] is None
