"""What promotion asks of a machine that serves, and which machine `deploy.kind` names.

Short, because every kind of target meets here: a new one is a module of this room and a row in `target_for`.
"""

from __future__ import annotations

from typing import Any, Protocol

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.deployment.releases import Releases, Stopped
from slipway.engines.server import Server


class Target(Protocol):
    """A machine that holds releases and serves one of them. Releases are given by name."""

    releases: Releases

    def start(self, name: str) -> Server:
        """Serve a release beside whatever serves and wait for its health. Raises EngineError or ResourceError; then
        nothing runs."""

    def server(self, name: str) -> Server | None:
        """The process that serves a release; None when none does. Raises StateError when its record cannot be read."""

    def healthy(self, name: str) -> bool:
        """Whether the release's engine runs and answers."""

    def smoke(self, name: str) -> list[dict[str, Any]]:
        """The answers to the release's own smoke prompts, one row each. Raises EngineError for an empty one."""

    def running(self) -> list[str]:
        """Names of the releases out of which an engine runs, also those whose directory somebody deleted."""

    def stop(self, name: str) -> list[Stopped]:
        """End every engine process of a release, whatever its record says; the ones that were ended."""


def target_for(params: DeployConfig) -> Target:
    """The target that `deploy.kind` names."""
    return {"local": LocalTarget}[params.kind](params)
