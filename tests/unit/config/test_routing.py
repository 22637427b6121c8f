"""Limits of routing, and the record of what was chosen."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.routing import Route, RouteRule, RoutingConfig


def test_few_users_are_not_more_than_many() -> None:
    assert RoutingConfig(few_users=10).many_users == 10
    with pytest.raises(ValidationError, match="few_users=11 is above many_users=10"):
        RoutingConfig(few_users=11)


def test_a_route_reads_back() -> None:
    rule = RouteRule(rule="model size", value="8 B", threshold="at most 120 B", says="spark", source="conf/models")
    route = Route(target="spark", decided_by="no rule asks for a DGX", rules=(rule,))
    assert Route.model_validate_json(route.model_dump_json()) == route
    with pytest.raises(ValidationError, match="says"):
        RouteRule.model_validate({**rule.model_dump(), "says": "perhaps"})
