"""The tracking section: its address is a secret URL, refused by JSON schema when it holds a literal password."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from slipway.config.tracking import TrackingConfig


def test_an_experiment_has_a_name():
    with pytest.raises(ValidationError, match="experiment"):
        TrackingConfig(experiment="")


def test_databases_are_addresses_too():
    for uri in ("sqlite:////data/mlflow.db", "postgresql+psycopg2://host/db", "mysql://host/db"):
        assert TrackingConfig(uri=uri).uri.get_secret_value() == uri


@pytest.mark.parametrize(
    ("uri", "taken"),
    [
        ("http://127.0.0.1:5000", True),
        ("${oc.env:MLFLOW_URI}", True),
        ("http://${oc.env:USER}:${oc.env:PASSWORD}@host", True),
        ("sqlite:////a@b/c.db", True),
        ("http://ann:pw@host", False),
        ("http://token@host", False),
        ("postgresql://host/db?password=pw", False),
    ],
)
def test_the_pattern_of_the_schema_lets_no_literal_credentials_into_a_parameter(uri, taken):
    pattern = TrackingConfig.model_json_schema()["properties"]["uri"]["pattern"]
    assert bool(re.search(pattern, uri)) is taken
