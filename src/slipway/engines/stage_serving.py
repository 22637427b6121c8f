"""How a stage asks a bundle: the params that say where it is served, and its server for as long as the stage asks.

Where an engine runs and where its caches lie decide no answer, so these params are in no key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.endpoint import Endpoint
from slipway.engines.serving import Service, serving
from slipway.engines.warm_start import warmed, with_own_cache
from slipway.errors import EngineError, ResourceError
from slipway.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from slipway.config.load import Config


class ServingParams(Section):
    """Where a stage serves the engine that it asks; a base beside the section of its own keys."""

    serving: TargetConfig = Field(default_factory=TargetConfig, description="The machine that serves.")
    cache_dir: str | None = Field(None, description="engine.cache_dir.")
    cache_gb: float = Field(20, description="engine.cache_gb.")

    def key_document(self) -> dict[str, Any]:
        """What decides answers, and not where they are asked."""
        document = super().key_document()
        return {name: value for name, value in document.items() if name not in ServingParams.model_fields}


def serving_keys(config: Config) -> dict[str, Any]:
    """The values of ServingParams in a run."""
    return {
        "serving": config.serving,
        "cache_dir": config.engine.cache_dir,
        "cache_gb": config.engine.cache_gb,
    }


@contextmanager
def bundle_server(bundle: Path, params: ServingParams, space: Workspace) -> Iterator[Endpoint]:
    """The server of a bundle for the time of the block, from the bundle's caches where it has any.

    Raises EngineError for a bundle that is incomplete or for another CPU, and when the server does not start. A lost
    connection in the block is raised as what the end of the server says of itself, where it has ended.
    """
    plan = read_plan(bundle, here=isinstance(params.serving.runner, LocalRunConfig))
    service = Service(bundle, plan, params.serving, space.work / "server")
    service = with_own_cache(service, params.cache_dir, int(params.cache_gb * 1e9))
    with serving(warmed(service, space.progress.note)) as endpoint:
        try:
            yield endpoint
        except (EngineError, ResourceError):
            endpoint.check_alive()  # a dead server explains more than a lost connection
            raise
