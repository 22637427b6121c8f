"""The services of one machine: Prefect server, MLflow server and a worker under supervisord, on loopback.

    python -m slipway.ops.services up | down | worker

Ports: SLIPWAY_PREFECT_PORT (4200) and SLIPWAY_MLFLOW_PORT (5000). Everything they write is under one folder,
`.slipway/services` or SLIPWAY_SERVICES. Run from the project's root. Talks to Prefect over its API and its CLI, so the
library does not import it.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from slipway.errors import ConfigError, ResourceError, SlipwayError
from slipway.system import ports, processes
from slipway.system.files import canonical, sha256_bytes, sha256_file
from slipway.system.http import is_healthy, loopback_without_proxy
from slipway.system.locks import locked
from slipway.system.processes import ProcessIdentity

HOST = "127.0.0.1"
POOL = "slipway-local"
DEPLOYMENT = "finetune-and-ship"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Services:
    """Where the services of this project's root live and listen."""

    root: Path
    data: Path
    prefect_port: int
    mlflow_port: int

    @staticmethod
    def here() -> Services:
        root = Path(os.environ.get("SLIPWAY_ROOT") or Path.cwd()).resolve()
        if not (root / "infra/local/supervisord.conf").is_file():
            raise ConfigError(
                "working directory", root, "the project's root, which holds infra/local", "cd there, then run again"
            )
        data = Path(os.environ.get("SLIPWAY_SERVICES") or root / ".slipway/services").resolve()
        return Services(root, data, _port("SLIPWAY_PREFECT_PORT", 4200), _port("SLIPWAY_MLFLOW_PORT", 5000))

    @property
    def prefect_url(self) -> str:
        return f"http://{HOST}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"

    def environment(self) -> dict[str, str]:
        """What the services, and every command that talks to them, need; telemetry off."""
        return {
            **os.environ,
            **loopback_without_proxy(os.environ),
            **_read_env(self.root / "mlflow/server.env"),
            "DO_NOT_TRACK": "1",
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.data}/mlflow/mlflow.db",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.data / "mlflow/artifacts"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_HOME": str(self.data / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "SLIPWAY_MLFLOW_PORT": str(self.mlflow_port),
            "SLIPWAY_PREFECT_PORT": str(self.prefect_port),
            "SLIPWAY_PYTHON": sys.executable,
            "SLIPWAY_ROOT": str(self.root),
            "SLIPWAY_SERVICES": str(self.data),
        }


def up(services: Services, console: Console) -> None:
    """Start what does not run, wait for health, deploy the flow. A second call changes nothing and says so.

    Raises ResourceError for a busy port or a service that does not come up.
    """
    for folder in (services.data / "prefect", services.data / "mlflow/artifacts"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(services.data / "lock", LOCK_TIMEOUT_S, "start of the services"), console.status("") as status:
        started = supervisor(services) is None
        if started:
            _require_ports(services)
            _start(services)
        for name, ready in _checks(services).items():
            status.update(f"waiting for {name}")
            _wait(services, name, ready)
        status.update("deploying")
        deployed = _deploy(services)
    console.print(
        "services started" if started else "services were up already" + ("" if deployed else "; nothing to do"),
        highlight=False,
    )
    console.print(
        f"  Prefect  {services.prefect_url}\n  MLflow   {services.mlflow_url}\n  data     {services.data}",
        highlight=False,
    )
    if deployed:
        console.print(f"  deployed {DEPLOYMENT} to work pool {POOL}", highlight=False)
    if services.prefect_port != 4200:
        console.print(f"  for prefect commands: export PREFECT_API_URL={services.prefect_url}/api", highlight=False)


def down(services: Services, console: Console) -> None:
    """Stop exactly what `up` started; data stays. A second call changes nothing and says so."""
    process = supervisor(services)
    if process is None:
        console.print("services were down already")
        return
    members = processes.family(process)
    processes.send(process, signal.SIGTERM)
    alive = processes.wait_ended(members, STOP_TIMEOUT_S)
    if alive:
        raise ResourceError(
            "services",
            f"still running: {[p.pid for p in alive]}",
            "to end when asked",
            f"read {services.data}/supervisord.log",
        )
    console.print("services stopped")


def worker(services: Services) -> None:
    """Become the worker once the server answers: supervisord starts both at the same time."""
    _wait(services, "Prefect", lambda: is_healthy(f"{services.prefect_url}/api/health"))
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        POOL,
        "--type",
        "process",
        "--name",
        "local",
        "--limit",
        "1",
    ]
    os.execv(sys.executable, command)  # noqa: S606 - takes this process's place


def supervisor(services: Services) -> ProcessIdentity | None:
    """The running supervisord of this data folder: the pid that it wrote there, if that is a supervisord of this folder."""
    try:
        process = processes.identify(int((services.data / "supervisord.pid").read_text()))
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    environment, argv = processes.environment(process), processes.command_line(process)
    mine = environment.get("SLIPWAY_SERVICES") == str(services.data) and any("supervisord" in a for a in argv)
    return process if mine and processes.is_alive(process) else None


def _start(services: Services) -> None:
    conf = services.root / "infra/local/supervisord.conf"
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)]
    done = subprocess.run(
        command, cwd=services.data, env=services.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ResourceError(
            "supervisord",
            (done.stderr or done.stdout).strip()[-500:],
            "to start",
            f"run it by hand: {shlex.join(command)}",
        )


def _require_ports(services: Services) -> None:
    for name, port, variable in (
        ("Prefect", services.prefect_port, "SLIPWAY_PREFECT_PORT"),
        ("MLflow", services.mlflow_port, "SLIPWAY_MLFLOW_PORT"),
    ):
        hint = f"stop what listens there (`ss -ltnp`), or choose another: {variable}={port + 1} make up"
        ports.require_free(HOST, port, hint, of=f"of {name}")


def _checks(services: Services) -> dict[str, Callable[[], bool]]:
    return {
        "Prefect": lambda: is_healthy(f"{services.prefect_url}/api/health"),
        "MLflow": lambda: is_healthy(f"{services.mlflow_url}/health"),
        "the worker": lambda: _worker_online(services),
    }


def _wait(services: Services, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise ResourceError(
                name, f"not up after {START_TIMEOUT_S:.0f} s", "a healthy service", f"read the logs in {services.data}"
            )
        time.sleep(0.5)


def _worker_online(services: Services) -> bool:
    found = _api(services, "POST", f"/work_pools/{POOL}/workers/filter", {})
    return isinstance(found, list) and any(w["status"] == "ONLINE" for w in found)


def _deploy(services: Services) -> bool:
    """Deploy when the deployment's sources changed since the last time; True when it did."""
    stamp, digest = services.data / "deployed", _sources_digest(services)
    if stamp.exists() and stamp.read_text() == digest:
        return False
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command, cwd=services.root, env=services.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ResourceError(
            "prefect deploy",
            (done.stdout + done.stderr).strip()[-1500:],
            "exit code 0",
            f"run it by hand: {shlex.join(command)}",
        )
    _install_automations(services)
    stamp.write_text(digest)
    return True


def _sources_digest(services: Services) -> str:
    files = [
        services.root / "prefect.yaml",
        *sorted(services.root.glob("conf/**/*.yaml")),
        *sorted(services.root.glob("flows/*.py")),
    ]
    files += [
        *(Path(__file__).resolve().parents[1] / "config").glob("*.py"),
        *sorted(services.root.glob("infra/local/automations/*.json")),
    ]
    return sha256_bytes(canonical([[str(f), sha256_file(f)] for f in files]))


def _install_automations(services: Services) -> None:
    """Create or replace the automations of infra/local/automations, by name."""
    for file in sorted(services.root.glob("infra/local/automations/*.json")):
        wanted = json.loads(file.read_text())
        found = _api(services, "POST", "/automations/filter", {"automations": {"name": {"any_": [wanted["name"]]}}})
        for old in found if isinstance(found, list) else []:
            _api(services, "DELETE", f"/automations/{old['id']}")
        if _api(services, "POST", "/automations/", wanted) is None:
            raise ResourceError(
                f"automation {wanted['name']}",
                "refused by the server",
                "an installed automation",
                f"read {services.data}/prefect.log",
            )


def _api(services: Services, method: str, path: str, body: Any = None) -> Any:
    """The JSON answer of Prefect's API; None when it does not answer or refuses."""
    connection = http.client.HTTPConnection(HOST, services.prefect_port, timeout=10)
    try:
        connection.request(
            method, f"/api{path}", json.dumps(body) if body is not None else None, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        text = answer.read()
        return (json.loads(text) if text else {}) if answer.status < http.HTTPStatus.BAD_REQUEST else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdigit() or not 1 <= int(value) <= 65535:
        raise ConfigError(variable, value, "a port number, 1 to 65535", f"unset it for {default}")
    return int(value)


def _read_env(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def main(arguments: list[str]) -> int:
    try:
        services = Services.here()
        actions = {
            "up": lambda: up(services, Console()),
            "down": lambda: down(services, Console()),
            "worker": lambda: worker(services),
        }
        if len(arguments) != 1 or arguments[0] not in actions:
            raise ConfigError("services", " ".join(arguments), "up, down or worker", "see the module's docstring")
        actions[arguments[0]]()
    except SlipwayError as err:
        Console(stderr=True).print(str(err), style="red", highlight=False)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
