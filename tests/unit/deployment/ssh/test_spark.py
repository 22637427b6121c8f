"""The target `spark` by its parts; over a real sshd: `tests/lab/deployment`."""

from __future__ import annotations

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.ssh.spark import SparkTarget
from slipway.errors import SlipwayError
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.support.target import make_engine


def params(**ssh: object) -> DeployConfig:
    return DeployConfig.model_validate({"kind": "spark", "ssh": {"host": "127.0.0.1", "user": "me", **ssh}})


def test_a_plan_for_another_machine_names_nothing_of_this_one(store: Store) -> None:
    target = SparkTarget(params())
    plan = target.start_plan(make_engine(store, {"answer": "x"}).path)
    assert "model" not in plan
    assert plan["plan"]["argv"][0] == "{bundle}/server"
    assert target.restart_plan("/anywhere") == {}


def test_a_machine_that_is_no_target_is_one_error(tmp_path) -> None:
    identity = tmp_path / "key"
    target = SparkTarget(params(port=any_port(), identity_file=str(identity), known_hosts=str(tmp_path / "known")))
    with pytest.raises(SlipwayError, match=r"127\.0\.0\.1|key"):
        target.call("status", {})
    target.close()
