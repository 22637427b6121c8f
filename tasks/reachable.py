"""Is a service there? Asked before any work is spent."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL

from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from slipway.system.redact import mask


def require_tracking(tracking: TrackingConfig) -> None:
    """Raise ResourceError when MLflow does not answer; file and database URIs need no server."""
    if urlsplit(tracking.uri).scheme in ("http", "https"):
        require("MLflow", tracking.uri, "`make up`, or set tracking.uri")


def require_prefect() -> None:
    """Raise ResourceError when there is no Prefect server at PREFECT_API_URL (prefect.toml)."""
    require("Prefect", PREFECT_API_URL.value() or "", "`make up`, or set PREFECT_API_URL")


def require(name: str, base: str, advice: str) -> None:
    """Raise ResourceError unless `base`/health answers 200."""
    url, shown = urlsplit(base), mask(base)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=10)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as err:
        raise ResourceError(name, f"{shown} does not answer ({err})", "a running server", advice) from err
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise ResourceError(name, f"{shown}/health says {status}", "200", f"see what listens there; {advice}")
