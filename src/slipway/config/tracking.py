"""Section `tracking`: MLflow. Short because a section is one file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from slipway.config.base import NO_CREDENTIALS, SecretUrl, Section, of_scheme

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


class TrackingConfig(Section):
    """MLflow."""

    uri: Annotated[SecretUrl, AfterValidator(of_scheme(*_SCHEMES))] = Field(
        SecretUrl("http://127.0.0.1:5000"),
        description="MLflow server or database. Credentials are never shown; give them as `${oc.env:NAME}`.",
        json_schema_extra={"pattern": NO_CREDENTIALS},
    )
    experiment: str = Field("finetune-and-ship", min_length=1, description="MLflow experiment.")
