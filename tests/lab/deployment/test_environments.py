"""The services on a machine unlike ours, everything at once, from a cold start.

A release without `.git` in a folder whose path has spaces, a percent sign, letters outside ASCII and more than 200
characters; an unprivileged user with a read-only HOME and umask 077; LANG=C; every proxy
variable set to a proxy that nothing on loopback may use. What a single one of these needs is in the unit tests.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slipway.ops.prefect_api import call
from slipway.ops.services import Services
from slipway.ops.supervision import supervisor
from slipway.system.ports import any_port
from tests.support.release import PATH_LENGTH, difficult_folder, environment_for, unpack
from tests.support.stranger import NOBODY, as_nobody

pytestmark = pytest.mark.timeout(900)

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOG_A_RUN = """
import mlflow
from pathlib import Path
from slipway.config.load import load_config
from tasks.health import require_prefect, require_tracking
config = load_config(Path("conf"))
require_prefect()
require_tracking(config.tracking)
mlflow.set_tracking_uri(config.tracking.uri.get_secret_value())
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    mlflow.log_text("größer", "text.txt")
print(mlflow.artifacts.load_text(run.info.artifact_uri + "/text.txt").encode("utf-8"))
"""


@dataclass
class Release:
    """An unpacked release with its services, and the shell of its user."""

    root: Path
    services: Services
    shell: dict[str, str]
    proxied: list[str] = field(default_factory=list)

    def sh(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.shell,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=600,
            check=False,
            umask=0o077,
            **user,  # type: ignore[call-overload]
        )

    def as_user(self, action: Callable[[], Any]) -> Any:
        """What `action` returns in this process's Python, as the user of the services."""
        return as_nobody(action) if os.geteuid() == 0 else action()


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    top = Path(tempfile.mkdtemp(prefix="slipway-"))
    top.chmod(0o755)
    proxy = socket.create_server(("127.0.0.1", 0))
    root = unpack(difficult_folder(top))
    binaries = environment_for(root, top / "python")
    home = top / "home"
    home.mkdir(mode=0o555)
    if os.geteuid() == 0:
        os.chown(root, NOBODY, NOBODY)
    services = Services(root, root / ".slipway/services", any_port(), any_port())
    shell = {
        "HOME": str(home),
        "LANG": "C",
        "LC_ALL": "C",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": str(binaries / "python"),
        "LD_LIBRARY_PATH": str(top / "python/lib"),
        "SLIPWAY_PREFECT_PORT": str(services.prefect_port),
        "SLIPWAY_MLFLOW_PORT": str(services.mlflow_port),
        **dict.fromkeys(PROXIES, f"http://127.0.0.1:{proxy.getsockname()[1]}"),
    }
    here = Release(root, services, shell)
    threading.Thread(target=_note_connections, args=(proxy, here.proxied), daemon=True).start()
    try:
        started = here.sh("infra/local/up")
        logs = "".join(f"\n{p.name}:\n{p.read_text()[-1500:]}" for p in services.data.glob("*.log"))
        assert started.returncode == 0, started.stdout + started.stderr + logs
        yield here
    finally:
        here.sh("infra/local/down")
        proxy.close()
        shutil.rmtree(top)


def _note_connections(proxy: socket.socket, proxied: list[str]) -> None:
    """Whoever talks to the proxy is noted by the first line that it sends, and left without an answer."""
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:  # closed: the test is over
            return
        connection.settimeout(5)
        with suppress(OSError), connection:
            proxied += connection.recv(200).decode("latin-1").splitlines()[:1]  # none: it said nothing and left


def test_the_path_is_as_difficult_as_it_claims(release: Release) -> None:
    assert len(str(release.root)) >= PATH_LENGTH
    assert " " in str(release.root)
    assert not str(release.root).isascii()
    assert not (release.root / ".git").exists()


def test_the_services_run_as_their_user_and_keep_their_files_to_themselves(release: Release) -> None:
    process = supervisor(release.services)
    assert process
    uid = Path(f"/proc/{process.pid}").stat().st_uid
    assert uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    assert (release.services.data / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert list((release.root.parents[3] / "home").iterdir()) == []


def test_prefects_own_command_logs_in_without_proxy(release: Release) -> None:
    """A paused pool takes the run and starts nothing."""
    python = str(release.root / ".venv/bin/python")
    release.shell["PREFECT_API_URL"] = f"{release.services.prefect_url}/api"
    paused = release.sh(python, "-m", "prefect", "work-pool", "pause", "slipway-local")
    assert paused.returncode == 0, paused.stdout + paused.stderr
    ran = release.sh(python, "-m", "prefect", "deployment", "run", "finetune-and-ship")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = release.as_user(lambda: call(release.services, "POST", "/flow_runs/filter", scheduled))
    assert [run["deployment_id"] is not None for run in runs if not run["auto_scheduled"]] == [True]


def test_prefect_from_another_folder_says_where_to_go_in_one_line(release: Release) -> None:
    python = str(release.root / ".venv/bin/python")
    shell = {name: value for name, value in release.shell.items() if name != "PREFECT_API_URL"}
    shell["HOME"] = str(release.services.data)  # of a read-only one Prefect itself warns
    elsewhere = Release(release.root, release.services, shell)
    ran = elsewhere.sh(python, "-m", "prefect", "deployment", "run", "finetune-and-ship", cwd=Path("/"))
    assert ran.returncode == 1
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("prefect deployment: no server is named in /; expected the project's root")
    assert f"cd '{release.root}'" in line
    assert elsewhere.sh(python, "-m", "prefect", "--version", cwd=Path("/")).returncode == 0


def test_mlflow_takes_metrics_and_artifacts(release: Release) -> None:
    logged = release.sh(str(release.root / ".venv/bin/python"), "-c", LOG_A_RUN)
    assert logged.returncode == 0, logged.stdout + logged.stderr
    assert repr("größer".encode()) in logged.stdout


def test_slipways_own_commands_answer(release: Release) -> None:
    python = str(release.root / ".venv/bin/python")
    status = release.sh(python, "-m", "slipway", "status", "--json")
    assert status.returncode == 0, status.stderr
    assert all(service["up"] for service in json.loads(status.stdout)["services"])
    doctor = release.sh(python, "-m", "slipway", "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(doctor.stdout)}
    assert checks["Prefect"]["status"] == checks["MLflow"]["status"] == "ok", doctor.stdout
    for command in (["config"], ["status"], ["doctor"], ["--help"]):
        shown = release.sh(python, "-m", "slipway", *command)
        assert "Traceback" not in shown.stderr + shown.stdout, shown.stderr
        assert shown.returncode in (0, 4), shown.stderr


def test_nothing_on_loopback_went_through_the_proxy(release: Release) -> None:
    """Last: everything above has run."""
    assert [line for line in release.proxied if "127.0.0.1" in line or "localhost" in line] == []
