"""Which machine `deploy.kind` names."""

from __future__ import annotations

from typing import get_args

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.deployment.target import Target, target_for


def test_every_kind_of_the_config_has_a_target(params: DeployConfig) -> None:
    kinds = get_args(DeployConfig.model_fields["kind"].annotation)
    targets = [target_for(params.model_copy(update={"kind": kind})) for kind in kinds]
    assert [type(target) for target in targets] == [LocalTarget]
    methods = {name for name in vars(Target) if not name.startswith("_")}
    assert methods == {"start", "server", "healthy", "smoke", "running", "stop"}
    assert all(callable(getattr(target, name)) for target in targets for name in methods)
