"""A target's set-up out of the config: which ports tunnels may lead to, which units bring it back after a boot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slipway.agent.units import units
from slipway.config.deploy import DeployConfig
from slipway.config.ssh import SshConfig
from slipway.deployment.bundle.signing import signer_for, trust_of
from slipway.deployment.ssh import set_up as ssh_set_up
from slipway.deployment.ssh.set_up import Show
from slipway.errors import ConfigError


def set_up_target(
    params: DeployConfig,
    show: Show,
    store: Path,
    *,
    identity: Path | None = None,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Make the machine of `params.ssh` the target `params.target`, which trusts the signer of the store at `store` and
    whom `params.trust` names; the probe of it. Arguments and errors as of `ssh_set_up.set_up`; ConfigError for a target
    that is not behind ssh."""
    ssh, name = _behind_ssh(params), _name(params)
    ports = [
        *range(params.ports[0], params.ports[1] + 1),
        *([params.proxy.port] if params.proxy.kind != "none" else []),
    ]
    trust = vars(trust_of(params.trust, signer_for(params.signing, store)))
    return ssh_set_up.set_up(
        ssh, name, ports, units(name), show, identity=identity, fingerprint=fingerprint, trust=trust
    )


def undo_target(params: DeployConfig, show: Show, *, identity: Path | None = None) -> None:
    """Take the set-up back, there and here. Errors as of `ssh_set_up.undo`."""
    ssh_set_up.undo(_behind_ssh(params), show, identity=identity)


def _behind_ssh(params: DeployConfig) -> SshConfig:
    if params.ssh is None:
        next_step = "this one needs no set-up; conf/deploy/spark.yaml shows how one behind ssh is described"
        raise ConfigError(f"target {params.target}", f"kind {params.kind}", "kind spark, with deploy.ssh", next_step)
    return params.ssh


def _name(params: DeployConfig) -> str:
    """The target's name as units and keys carry it."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", params.target):
        expected = "small letters, digits and `-`, at most 41 of them"
        raise ConfigError("deploy.target", params.target, expected, "give the target a name like spark-2")
    return params.target
