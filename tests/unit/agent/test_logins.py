"""What a stage or an engine does not need to know."""

from __future__ import annotations

from slipway.agent.logins import without_logins
from slipway.ops.credentials import Credentials


def test_the_logins_that_the_flow_is_given_are_taken_out_and_nothing_else() -> None:
    credentials = Credentials("me", "secret")
    logins = {**credentials.prefect_environment(), **credentials.mlflow_environment()}
    assert len(logins) == 3
    assert without_logins({"PATH": "/bin", "HF_TOKEN": "t", **logins}) == {"PATH": "/bin", "HF_TOKEN": "t"}
