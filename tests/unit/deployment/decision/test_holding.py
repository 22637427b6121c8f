"""Holds, asked of the agent of a target."""

from __future__ import annotations

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.holding import hold, holds, unhold
from slipway.errors import DataError


def test_a_hold_is_set_seen_and_taken_off(params: DeployConfig) -> None:
    assert holds(params) == []
    made = hold(params, None, "ann", "trade fair")
    assert made == holds(params)
    assert [(row["release"], row["by"], row["reason"]) for row in made] == [(None, "ann", "trade fair")]
    assert unhold(params, None) == (made, [])


def test_a_release_that_is_not_there_cannot_be_held(params: DeployConfig) -> None:
    with pytest.raises(DataError, match="0042-0123abcd"):
        hold(params, "0042-0123abcd", "ann", "audit")
