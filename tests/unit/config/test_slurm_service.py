"""Section deploy.slurm: time for a successor, and what the agent makes of the section."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slipway.agent.slurm.engine import EngineTls, slurm_settings
from slipway.config.deploy import DeployConfig
from slipway.config.slurm_service import SlurmServiceConfig
from slipway.deployment.target import settings_of


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time_limit": "01:00:00"}, "successor_s=3600 of a time limit of 3600 s"),
        ({"time_limit": "1-00:00:00", "successor_s": 86340}, "must be less"),
        ({"time_limit": "60"}, "pattern"),
        ({"ports": [30000, 20000]}, "starts after it ends"),
        ({"partition": ""}, "at least 1"),
    ],
)
def test_a_job_that_leaves_no_time_for_its_successor_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SlurmServiceConfig(**values)


def test_the_agent_takes_the_section_as_it_is() -> None:
    tls = {"certificate": "/c.pem", "key": "/k.pem", "ca": "/ca.pem"}
    section = SlurmServiceConfig(partition="batch", gpus=4, time_limit="2-00:00:00", extra=["--exclusive"], tls=tls)
    document = settings_of(DeployConfig(kind="slurm", slurm=section))["slurm"]
    settings = slurm_settings(document)
    assert settings is not None
    assert (settings.partition, settings.account, settings.gpus, settings.extra) == ("batch", "", 4, ("--exclusive",))
    assert settings.ports == (20000, 31999)
    assert (settings.tls, settings.keyless) == (EngineTls("/c.pem", "/k.pem", "/ca.pem"), False)


@pytest.mark.parametrize("kind", ["slurm", "kubernetes", "spark"])
def test_a_kind_and_its_section_go_together(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"goes with deploy.kind={kind}"):
        DeployConfig(kind=kind)
