"""What is said of data versions: `slipway.data.published`, which the deployment retrain-on-data waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.errors import ResourceError
from slipway.ops.data_versions import DataVersion, publish, remember
from slipway.ops.prefect_api import emit_event
from slipway.ops.services import Services

PUBLISHED = "slipway.data.published"


def resource_of(version: DataVersion) -> dict[str, str]:
    """The event's resource; prefect.yaml matches its id."""
    return {"prefect.resource.id": f"slipway.data.{version.path}", "prefect.resource.name": str(version)}


def payload_of(version: DataVersion) -> dict[str, str]:
    """The event's payload: the version, and when it is announced (UTC), by which the newest of several is known."""
    return {**version.to_json(), "announced": datetime.now(UTC).isoformat(timespec="microseconds")}


def publish_and_announce(config: Config, services: Services) -> dict[str, Any]:
    """Push the committed version of `data.raw`, then tell Prefect of it. Raises what `publish` raises, and
    ResourceError when no server takes the event: the version stays pushed."""
    version = publish(services.root, config.data.raw)
    if not emit_event(services, PUBLISHED, resource_of(version), payload_of(version)):
        raise ResourceError(
            f"event of {version}",
            f"the version is pushed; Prefect at {services.prefect_url} did not take the event",
            "a server that answers",
            "`make up`, then publish again; or push the commit: the deployment look-for-data finds it",
        )
    remember(_store(services.root, config), version)
    return version.to_json()


def _store(root: Path, config: Config) -> Path:
    return root / Path(config.store.root).expanduser()
