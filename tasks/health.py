"""Is a service there? Asked before any work is spent."""

from __future__ import annotations

from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL

from slipway.config.tracking import TrackingConfig
from slipway.system.http import require_healthy


def require_tracking(tracking: TrackingConfig) -> None:
    """Raise ResourceError when MLflow does not answer; file and database URIs need no server."""
    uri = tracking.uri.get_secret_value()
    if urlsplit(uri).scheme in ("http", "https"):
        require_healthy("MLflow", uri, "`make up`, or set tracking.uri")


def require_prefect() -> None:
    """Raise ResourceError when there is no Prefect server at PREFECT_API_URL (prefect.toml)."""
    require_healthy("Prefect", PREFECT_API_URL.value() or "", "`make up`, or set PREFECT_API_URL")
