"""A Prefect server with the deployments of prefect.yaml and their triggers, and what is asked of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from slipway.ops.prefect_api import POOL
from tests.support.prefect_server import prefect_server
from tests.support.world import ROOT

WAIT_S = 90


@contextmanager
def deployed_server(config: pytest.Config) -> Iterator[SyncPrefectClient]:
    """A server as `make up` fills one; its client."""
    with prefect_server(config), get_client(sync_client=True) as client:
        client._client.post("/work_pools/", json={"name": POOL, "type": "process"}).raise_for_status()
        environment = {**os.environ, "PREFECT_API_URL": str(client.api_url).rstrip("/"), "SLIPWAY_ROOT": str(ROOT)}
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield client


def wait(ready: Callable[[], Any]) -> Any:
    """What `ready` gives, once it gives something."""
    deadline = time.monotonic() + WAIT_S
    while not (result := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def deployment(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    """A deployment by its name."""
    body = {"deployments": {"name": {"any_": [name]}}}
    (one,) = client._client.post("/deployments/filter", json=body).json()
    return dict(one)


def runs_of(client: SyncPrefectClient, name: str) -> list[dict[str, Any]]:
    """The runs of a deployment, oldest first."""
    body = {"deployments": {"id": {"any_": [deployment(client, name)["id"]]}}}
    return sorted(client._client.post("/flow_runs/filter", json=body).json(), key=lambda run: run["created"])
