"""The deploy section: a target keeps a way back, and its defaults are loopback."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.deploy import DeployConfig


def test_a_target_listens_on_loopback_unless_told_otherwise():
    assert (DeployConfig().host, DeployConfig().kind) == ("127.0.0.1", "local")


@pytest.mark.parametrize(
    "keys", [{"keep_releases": 1}, {"smoke_requests": 0}, {"start_timeout_s": 0}, {"kind": "ssh"}], ids=str
)
def test_what_leaves_no_way_back_or_no_check_is_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        DeployConfig(**keys)


def test_one_port_is_a_range():
    assert DeployConfig(ports=[8091, 8091]).ports == (8091, 8091)
