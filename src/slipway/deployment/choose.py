"""The transport to a target, by `deploy.kind`."""

from __future__ import annotations

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.deployment.target import Target


def target_for(params: DeployConfig) -> Target:
    """The transport that `deploy.kind` names."""
    return {"local": LocalTarget}[params.kind](params)
