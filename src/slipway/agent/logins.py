"""Logins to Prefect and MLflow in the environment: of the flow alone, not of the stages and engines that it starts.

Short because it is all that the rooms `runners` and `agent`, which both start such processes, share of it.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES = frozenset(
    {
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_KEY",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
    }
)


def without_logins(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that runs code of models and libraries and talks to neither service."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}
