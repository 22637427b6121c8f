"""What promotion asks of a machine that serves."""

from __future__ import annotations

from typing import Any, Protocol

from slipway.deployment.releases import Releases
from slipway.engines.server import Server


class Target(Protocol):
    """A machine that holds releases and serves one of them."""

    releases: Releases

    def start(self, name: str) -> Server: ...
    def server(self, name: str) -> Server | None: ...
    def healthy(self, name: str) -> bool: ...
    def smoke(self, name: str) -> list[dict[str, Any]]: ...
    def stop(self, name: str) -> Server | None: ...
