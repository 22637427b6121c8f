"""What Slipway asks of its own Prefect server: is a worker online, deploy the flow, install the automations.

Over the HTTP API and the `prefect` command, so that the library does not import the orchestrator.
"""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    stamp.write_text(digest, encoding="utf-8")
    return True


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
