"""The tracking section: its address is a secret URL, refused by JSON schema when it holds a literal password."""

from __future__ import annotations

import re

import pytest

from slipway.config.tracking import TrackingConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


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


BOUNDS: list[Bound] = [
    ("experiment", "", "e"),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("tracking", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(TrackingConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("experimnt", "experiment"),
        ("url", "uri"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("tracking", key, near)
