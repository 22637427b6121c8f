"""What Slipway asks of its own Prefect server: is a worker online, deploy the flow, install the automations.

Over the HTTP API and the `prefect` command, so that the library does not import the orchestrator.
"""

from __future__ import annotations

import http.client
import json
import platform
import re
import shlex
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slipway.errors import ResourceError
from slipway.ops.credentials import read_credentials
from slipway.ops.services import HOST, Services
from slipway.system.files import canonical, sha256_bytes, sha256_file

POOL = "slipway-local"
DEPLOYMENT = "finetune-and-ship"


def worker_online(services: Services) -> bool:
    """Whether a worker of the local pool sent a heartbeat lately."""
    workers = call(services, "POST", f"/work_pools/{POOL}/workers/filter", {})
    return isinstance(workers, list) and any(w["status"] == "ONLINE" for w in workers)


def deploy(services: Services) -> bool:
    """Deploy when the deployment's sources changed since the last time; True when it did.

    Raises ResourceError when `prefect deploy` or an automation is refused.
    """
    stamp, digest = services.data / "deployed", _sources_digest(services)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return False
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = {**services.environment(), **read_credentials(services.data).prefect_environment()}
    finished = subprocess.run(
        command,
        cwd=services.root,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if finished.returncode != 0:
        raise ResourceError(
            "prefect deploy",
            (finished.stdout + finished.stderr).strip()[-1500:],
            "exit code 0",
            f"run it by hand: {shlex.join(command)}",
        )
    _install_automations(services)
    make_machine_slot(services)
    stamp.write_text(digest, encoding="utf-8")
    return True


def make_machine_slot(services: Services) -> None:
    """Create the slot of this machine, where the server has none."""
    if call(services, "GET", f"/v2/concurrency_limits/{machine_slot()}") is None:
        call(services, "POST", "/v2/concurrency_limits/", {"name": machine_slot(), "limit": 1, "active": True})


def machine_slot() -> str:
    """The global concurrency limit that shows who works on this machine (tasks/accelerator.py)."""
    return f"slipway-machine-{re.sub(r'[^A-Za-z0-9]+', '-', platform.node())}"


def deployments(root: Path) -> list[str]:
    """The names of prefect.yaml's deployments, in its order."""
    return [one["name"] for one in yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]]


def call(services: Services, method: str, path: str, body: Any = None) -> Any:
    """The JSON answer of Prefect's API at `/api` + `path`; None when it does not answer or refuses."""
    headers = {"Content-Type": "application/json", "Authorization": read_credentials(services.data).authorization}
    connection = http.client.HTTPConnection(HOST, services.prefect_port, timeout=10)
    try:
        connection.request(method, f"/api{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        return (json.loads(text) if text else {}) if answer.status < http.HTTPStatus.BAD_REQUEST else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def emit_event(services: Services, event: str, resource: dict[str, str], payload: dict[str, Any]) -> bool:
    """Give Prefect an event, which automations and triggers of deployments hear; False when no server took it."""
    document = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
        "payload": payload,
    }
    return call(services, "POST", "/events", [document]) is not None


def _install_automations(services: Services) -> None:
    """Create or replace the automations of infra/local/automations, by name."""
    for file in sorted(services.root.glob("infra/local/automations/*.json")):
        automation = json.loads(file.read_text(encoding="utf-8"))
        same_name = {"automations": {"name": {"any_": [automation["name"]]}}}
        installed = call(services, "POST", "/automations/filter", same_name)
        for old in installed if isinstance(installed, list) else []:
            call(services, "DELETE", f"/automations/{old['id']}")
        if call(services, "POST", "/automations/", automation) is None:
            raise ResourceError(
                f"automation {automation['name']}",
                "refused by the server",
                "an installed automation",
                f"read {services.data}/prefect.log",
            )


def _sources_digest(services: Services) -> str:
    """One digest of everything that a deployment is made of: files by name and content, and the root they stand in."""
    package = Path(__file__).resolve().parents[1]
    files = [
        services.root / "prefect.yaml",
        *sorted(services.root.glob("conf/**/*.yaml")),
        *sorted(services.root.glob("flows/*.py")),
        *sorted((package / "config").glob("*.py")),
        *sorted(services.root.glob("infra/local/automations/*.json")),
    ]
    return sha256_bytes(canonical([[str(f), sha256_file(f)] for f in files]))
