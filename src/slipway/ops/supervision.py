"""Start and stop the services of one machine under supervisord, which has no control port and no socket.

    python -m slipway.ops.supervision up | down | worker

Run from the project's root. `down` and the parts of `up` that can fail early need nothing but this package.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from slipway.errors import ConfigError, ResourceError, SlipwayError
from slipway.ops.credentials import ensure_credentials, read_credentials
from slipway.ops.prefect_api import POOL, deploy, deployments, worker_online
from slipway.ops.servers import MLFLOW_HEALTH, PREFECT_HEALTH
from slipway.ops.services import HOST, PREFECT_PORT, SUPERVISORD_CONF, Services
from slipway.system import ports, processes
from slipway.system.http import is_healthy
from slipway.system.locks import locked
from slipway.system.processes import ProcessIdentity
from slipway.system.throttle import Throttle

START_TIMEOUT_S = 600.0  # 180 were too few for Prefect's first start on a machine whose cores others used
SLOW_S = 60.0  # after which whoever waits is told what for, and again after as long
STOP_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 3 * START_TIMEOUT_S  # whoever holds it may wait for three services
PID_FILE = "supervisord.pid"


def up(services: Services, console: Console) -> None:
    """Start what does not run, wait for health, deploy the flow. A second call changes nothing and says so.

    Raises ResourceError for a busy port, a folder that cannot be written or a service that does not come up.
    """
    _make_folders(services)
    with locked(services.data / "lock", LOCK_TIMEOUT_S, "start of the services"), console.status("") as status:
        ensure_credentials(services.data)
        services.record_ports()
        started = supervisor(services) is None
        if started:
            _require_ports(services)
            _start(services)
        for name, ready in _checks(services).items():
            status.update(f"waiting for {name}")
            _wait(services, name, ready, lambda line: console.print(line, highlight=False, markup=False))
        status.update("deploying")
        deployed = deploy(services)
    lines = [
        "services started" if started else "services were up already" + ("" if deployed else "; nothing to do"),
        f"  Prefect  {services.prefect_url}",
        f"  MLflow   {services.mlflow_url}",
        f"  data     {services.data}",
        "  login    `slipway status --login` shows user and password for a browser; commands here need neither",
    ]
    if deployed:
        lines.append(f"  deployed to work pool {POOL}: {', '.join(deployments(services.root))}")
    if services.prefect_port != PREFECT_PORT:
        lines.append(f"  for prefect commands: export PREFECT_API_URL={services.prefect_url}/api")
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def down(services: Services, console: Console) -> None:
    """Stop exactly what `up` started; data stays. A second call changes nothing and says so.

    Raises ResourceError when a process does not end.
    """
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
    """Become the worker, once the server answers: supervisord starts both at the same time. Does not return."""
    _wait(services, "Prefect", lambda: is_healthy(services.prefect_url + PREFECT_HEALTH))
    os.environ.update(read_credentials(services.data).prefect_environment())
    # Prefect's worker keeps files in `runner_storage` of the temporary folder, which belongs to whoever made it first.
    os.environ["TMPDIR"] = str(_own_temporary_folder())
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    os.execv(sys.executable, [*command, "--name", "local", "--limit", "1"])  # noqa: S606 - takes this process's place


def _own_temporary_folder() -> Path:
    """A folder for this user alone in the temporary folder: with a short path, since sockets are made there."""
    folder = Path(tempfile.gettempdir()) / f"slipway-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    owned = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
    return folder if owned else Path(tempfile.mkdtemp(prefix="slipway-"))


def supervisor(services: Services) -> ProcessIdentity | None:
    """The running supervisord of this data folder; None when there is none, whatever the pid file says."""
    try:
        process = processes.identify(int((services.data / PID_FILE).read_text(encoding="ascii")))
    except (OSError, ValueError, OverflowError):
        return None
    environment, argv = processes.environment(process), processes.command_line(process)
    mine = environment.get("SLIPWAY_SERVICES") == str(services.data) and any("supervisord" in a for a in argv)
    return process if mine and processes.is_alive(process) else None


def _make_folders(services: Services) -> None:
    """The services folder with its sub-folders, for this user only: databases and logs name data and prompts."""
    try:
        services.data.mkdir(parents=True, exist_ok=True)
        services.data.chmod(0o700)
        for folder in ("prefect", "mlflow/artifacts", "matplotlib"):
            (services.data / folder).mkdir(parents=True, exist_ok=True)
        (services.data / "lock").touch()
    except OSError as err:
        hint = "run as the folder's owner, or set SLIPWAY_SERVICES to a folder of yours"
        raise ResourceError(
            "services folder", f"{services.data} ({err.strerror})", "a folder that this user can write", hint
        ) from err


def _start(services: Services) -> None:
    (services.data / PID_FILE).unlink(missing_ok=True)  # of a supervisord that was killed
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(services.root / SUPERVISORD_CONF)]
    finished = subprocess.run(
        command,
        cwd=services.data,
        env=services.environment(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if finished.returncode != 0:
        raise ResourceError(
            "supervisord",
            (finished.stderr or finished.stdout).strip()[-500:],
            "to start",
            f"`make setup`; or run it by hand: {shlex.join(command)}",
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
        "Prefect": lambda: is_healthy(services.prefect_url + PREFECT_HEALTH),
        "MLflow": lambda: is_healthy(services.mlflow_url + MLFLOW_HEALTH),
        "the worker": lambda: worker_online(services),
    }


def _wait(
    services: Services, name: str, ready: Callable[[], bool], show: Callable[[str], object] = lambda _: None
) -> None:
    begin, slow = time.monotonic(), Throttle(SLOW_S)
    slow.due()
    while not ready():
        seconds = time.monotonic() - begin
        if slow.due():
            show(f"{name}: not up after {seconds:.0f} s, waiting up to {START_TIMEOUT_S:.0f}; logs in {services.data}")
        if seconds > START_TIMEOUT_S:
            raise ResourceError(
                name, f"not up after {START_TIMEOUT_S:.0f} s", "a healthy service", f"read the logs in {services.data}"
            )
        time.sleep(0.5)


def main(arguments: list[str]) -> int:
    """Run one action in the project's root; returns the exit code of slipway.errors."""
    try:
        services = Services.here()
        actions = {
            "up": lambda: up(services, Console(soft_wrap=True)),
            "down": lambda: down(services, Console(soft_wrap=True)),
            "worker": lambda: worker(services),
        }
        if len(arguments) != 1 or arguments[0] not in actions:
            raise ConfigError("services", " ".join(arguments), "up, down or worker", "see the module's docstring")
        actions[arguments[0]]()
    except SlipwayError as err:
        Console(stderr=True, soft_wrap=True).print(str(err), style="red", highlight=False, markup=False)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
