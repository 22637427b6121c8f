"""Holds of a target, asked of the agent that stands there: who holds it or a release of it, since when, why."""

from __future__ import annotations

from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.deployment.target import session, status_of

Hold = dict[str, Any]


def hold(params: DeployConfig, release: str | None, by: str, reason: str) -> list[Hold]:
    """Hold the target, or one release of it against deletion; all holds there are then. Raises DataError for a release
    that is not there and an empty reason, StateError when the record cannot be read."""
    return _ask(params, "hold", {"release": release, "by": by, "reason": reason})["holds"]


def unhold(params: DeployConfig, release: str | None) -> tuple[list[Hold], list[Hold]]:
    """Take every hold off the target, or off one release; those that went and those that stay."""
    answer = _ask(params, "unhold", {"release": release})
    return answer["removed"], answer["holds"]


def holds(params: DeployConfig) -> list[Hold]:
    """All holds of the target, oldest first: `release` (None: the whole target), `by`, `since`, `reason`."""
    with session(params) as target:
        return list(status_of(target)["holds"])


def _ask(params: DeployConfig, verb: str, document: dict[str, Any]) -> dict[str, list[Hold]]:
    with session(params) as target:
        return target.call(verb, document)
