from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from slipway.errors import ConfigError, ResourceError
from slipway.ops.services import Services, down, up

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(ROOT, tmp_path, 4200, 5000)


def test_a_busy_port_is_named_with_the_variable_that_changes_it(services: Services) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port} of Prefect.*SLIPWAY_PREFECT_PORT"):
            up(Services(ROOT, services.data, port, 5000), Console(file=io.StringIO()))
    assert not (services.data / "supervisord.pid").exists()


def test_down_without_up_says_so(services: Services) -> None:
    out = io.StringIO()
    down(services, Console(file=out))
    assert "already" in out.getvalue()


def test_a_foreign_process_in_the_pid_file_is_not_ours(services: Services) -> None:
    (services.data / "supervisord.pid").write_text("1\n")
    out = io.StringIO()
    down(services, Console(file=out))
    assert "already" in out.getvalue()


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIPWAY_ROOT", str(ROOT))
    monkeypatch.setenv("SLIPWAY_SERVICES", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_PREFECT_PORT", "4321")
    environment = Services.here().environment()
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["PREFECT_HOME"] == f"{tmp_path}/prefect"
    monkeypatch.setenv("SLIPWAY_MLFLOW_PORT", "fivethousand")
    with pytest.raises(ConfigError, match="SLIPWAY_MLFLOW_PORT: fivethousand"):
        Services.here()


def test_outside_the_project_the_root_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLIPWAY_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"working directory.*infra/local"):
        Services.here()
