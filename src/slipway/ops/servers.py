"""The Prefect and MLflow servers of this machine, each behind the guard: `python -m slipway.ops.servers
prefect|mlflow`.

Both are the applications that `prefect server start` and `mlflow server` run, with those commands' settings, in a
uvicorn of ours: neither command can put a layer in front of its application. supervisord starts this module, with the
environment of `Services.environment`. Credentials are read from their file, never given on a command line, which every
user can read.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console

from slipway.errors import ConfigError, SlipwayError
from slipway.ops.credentials import Credentials, read_credentials
from slipway.ops.guard import Guard
from slipway.ops.services import HOST, Services

PREFECT_HEALTH = "/api/health"
MLFLOW_HEALTH = "/health"
# Longer than Prefect's client keeps a connection that it does not use (25 s): a server that ends it first resets the
# request that was on its way.
KEEP_ALIVE_S = 75


def prefect_app(services: Services, credentials: Credentials) -> Guard:
    """Prefect's API and UI, with its background services, behind the guard.

    Prefect checks the same pair itself: for its websockets, whose clients log in by their first message.
    """
    os.environ["PREFECT_SERVER_API_AUTH_STRING"] = credentials.pair  # read when prefect is imported
    os.environ.update(credentials.prefect_environment())  # its services call the API as a client does
    from prefect.server.api.server import create_app

    app: Any = create_app(final=True)
    return Guard(app, services.prefect_port, credentials, PREFECT_HEALTH, websocket_login=False)


def mlflow_app(services: Services, credentials: Credentials) -> Guard:
    """MLflow's tracking server, model registry and UI behind the guard; artifacts go through the server."""
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ.update(
        {
            "_MLFLOW_SERVER_FILE_STORE": database,
            "_MLFLOW_SERVER_REGISTRY_STORE": database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": os.environ["MLFLOW_ARTIFACTS_DESTINATION"],
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
    )
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(database, database, "mlflow-artifacts:/")
    return Guard(app, services.mlflow_port, credentials, MLFLOW_HEALTH)


def serve(name: str) -> None:
    """Serve `prefect` or `mlflow` until SIGTERM. Raises ConfigError for another name."""
    import uvicorn

    servers = {"prefect": (prefect_app, "prefect_port"), "mlflow": (mlflow_app, "mlflow_port")}
    if name not in servers:
        raise ConfigError("server", name, "prefect or mlflow", "see the module's docstring")
    services = Services.here()
    build, port = servers[name]
    app: Any = build(services, read_credentials(services.data))
    # No access log: it would grow with every poll of the worker.
    uvicorn.run(
        app,
        host=HOST,
        port=getattr(services, port),
        log_level="info",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


if __name__ == "__main__":
    try:
        serve(sys.argv[1] if len(sys.argv) == 2 else "")
    except SlipwayError as err:
        Console(stderr=True, soft_wrap=True).print(str(err), style="red", highlight=False, markup=False)
        sys.exit(err.exit_code)
