from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from slipway.errors import ResourceError
from slipway.ops import supervision
from slipway.ops.services import Services
from slipway.ops.supervision import down, main, up

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(ROOT, tmp_path / "services", 4200, 5000)


def text_of_down(services: Services) -> str:
    out = io.StringIO()
    down(services, Console(file=out))
    return out.getvalue()


def test_a_busy_port_names_its_holder_and_the_variable_that_changes_it(services: Services) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        expected = rf"port {port} of Prefect: .*pid {os.getpid()}.*SLIPWAY_PREFECT_PORT={port + 1}"
        with pytest.raises(ResourceError, match=expected):
            up(Services(ROOT, services.data, port, 5000), Console(file=io.StringIO()))
    assert not (services.data / "supervisord.pid").exists()


def test_the_services_folder_is_for_its_owner_alone(services: Services) -> None:
    services.data.mkdir(mode=0o755)
    with socket.socket() as taken, pytest.raises(ResourceError):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up(Services(ROOT, services.data, taken.getsockname()[1], 5000), Console(file=io.StringIO()))
    assert stat.S_IMODE(services.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((services.data / "credentials.json").stat().st_mode) == 0o600


def test_a_services_folder_that_cannot_be_made_is_named(services: Services) -> None:
    services.data.parent.joinpath("services").write_text("a file")
    with pytest.raises(ResourceError, match=rf"services folder: {services.data}.*SLIPWAY_SERVICES"):
        up(services, Console(file=io.StringIO()))


def test_down_without_up_says_so_and_makes_nothing(services: Services) -> None:
    assert "already" in text_of_down(services)
    assert not services.data.exists()


@pytest.mark.parametrize("content", ["1\n", "", "no number", "99999999999999999999", "-4"])
def test_a_pid_file_of_a_foreign_process_or_garbage_is_not_ours(services: Services, content: str) -> None:
    services.data.mkdir()
    (services.data / "supervisord.pid").write_text(content)
    assert "already" in text_of_down(services)


def test_down_needs_no_installed_orchestrator(services: Services) -> None:
    """`make down` in a clone without `.venv` imports neither Prefect nor MLflow."""
    code = "import sys, slipway.ops.supervision; sys.exit(bool({'prefect', 'mlflow', 'uvicorn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_workers_temporary_folder_is_its_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = supervision._own_temporary_folder()
    assert folder == tmp_path / f"slipway-{os.geteuid()}" == supervision._own_temporary_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)  # somebody else was first
    other = supervision._own_temporary_folder()
    assert other != folder
    assert stat.S_IMODE(other.stat().st_mode) == 0o700


def test_an_unknown_action_is_one_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SLIPWAY_ROOT", str(ROOT))
    assert main(["sideways"]) == 2
    assert "services: sideways; expected up, down or worker" in capsys.readouterr().err


def test_make_down_installs_nothing_and_works_without_an_environment(tmp_path: Path) -> None:
    """A clone whose `.venv` was removed: no recipe of `down` makes one, and the script does without."""
    recipe = subprocess.run(["make", "-n", "down"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "pip" not in recipe
    assert "venv " not in recipe
    environment = {**os.environ, "PYTHON": "/nonexistent", "SLIPWAY_SERVICES": str(tmp_path)}
    for content in (None, "1\n", "no number"):  # a stale pid file names somebody else's process
        if content:
            (tmp_path / "supervisord.pid").write_text(content)
        done = subprocess.run(
            ["infra/local/down"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "services were down already" in done.stdout


def test_up_with_a_half_installed_environment_says_so(tmp_path: Path) -> None:
    """An interrupted `make setup`: a Python without the packages."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "SLIPWAY_SERVICES": str(tmp_path / "services")}
    done = subprocess.run(["infra/local/up"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert f"python: {python} lacks Slipway's packages" in done.stderr
    assert "make setup" in done.stderr
    assert not (tmp_path / "services").exists()


def test_a_service_that_takes_long_is_waited_for_and_named(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SLOW_S", 0.0), ("START_TIMEOUT_S", 0.2)):
        monkeypatch.setattr(supervision, name, seconds)
    lines: list[str] = []
    with pytest.raises(ResourceError, match=r"Prefect: not up after 0 s; expected a healthy service"):
        supervision._wait(services, "Prefect", lambda: False, lines.append)
    assert lines[0] == f"Prefect: not up after 0 s, waiting up to 0; logs in {services.data}"
    looks = iter([False, True])
    supervision._wait(services, "Prefect", lambda: next(looks), lines.append)
