"""Does a service answer, and may this user use it? Asked before any work is spent."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL

from slipway.config.tracking import TrackingConfig
from slipway.ops.services import Services
from slipway.system.http import require_healthy

LOGGED_IN = "SLIPWAY_MLFLOW_LOGIN"  # set while MLflow's variables hold this machine's credentials


def require_tracking(tracking: TrackingConfig) -> None:
    """Raise ResourceError when MLflow does not answer, and log in to it; file and database URIs need no server."""
    uri = tracking.uri.get_secret_value()
    if urlsplit(uri).scheme in ("http", "https"):
        require_healthy("MLflow", uri, "`make up`, or set tracking.uri")
    _log_in(uri)


def _log_in(uri: str) -> None:
    """Let MLflow's client send this machine's credentials, when `uri` is this machine's own server.

    MLflow reads them from the environment and sends them to whatever server it talks to, so a process that talked to
    our server and then to another must not keep them.
    """
    credentials = Services.here().credentials_for(uri) if urlsplit(uri).scheme == "http" else None
    if credentials:
        os.environ.update({**credentials.mlflow_environment(), LOGGED_IN: credentials.user})
    elif os.environ.pop(LOGGED_IN, None):
        os.environ.pop("MLFLOW_TRACKING_USERNAME", None)
        os.environ.pop("MLFLOW_TRACKING_PASSWORD", None)


def require_prefect() -> None:
    """Raise ResourceError when there is no Prefect server at PREFECT_API_URL (prefect.toml)."""
    require_healthy("Prefect", PREFECT_API_URL.value() or "", "`make up`, or set PREFECT_API_URL")
