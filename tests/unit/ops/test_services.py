from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.ops.credentials import ensure_credentials
from slipway.ops.services import Services, is_root
from slipway.system.ports import any_port

ROOT = Path(__file__).resolve().parents[3]


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIPWAY_ROOT", str(ROOT))
    monkeypatch.setenv("SLIPWAY_SERVICES", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_PREFECT_PORT", "4321")
    environment = Services.here().environment()
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["PREFECT_HOME"] == f"{tmp_path}/prefect"
    assert environment["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    monkeypatch.setenv("SLIPWAY_MLFLOW_PORT", "fivethousand")
    with pytest.raises(ConfigError, match="SLIPWAY_MLFLOW_PORT: fivethousand"):
        Services.here()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "\u0664\u0662", "4200 "])
def test_a_port_that_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("SLIPWAY_ROOT", str(ROOT))
    monkeypatch.setenv("SLIPWAY_PREFECT_PORT", port)
    with pytest.raises(ConfigError, match="a port number, 1 to 65535"):
        Services.here()


def test_the_environment_reaches_loopback_without_a_proxy_and_holds_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    for name in ("no_proxy", "NO_PROXY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    services = Services(ROOT, tmp_path, 4321, 5678)
    password = ensure_credentials(tmp_path).password
    environment = services.environment()
    assert environment["no_proxy"] == environment["NO_PROXY"] == "127.0.0.1,localhost,::1"
    assert not [name for name, value in environment.items() if password in value]
    assert environment["PYTHONUTF8"] == "1"
    assert environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4321"


def test_outside_the_project_the_root_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLIPWAY_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert is_root(ROOT)
    assert not is_root(tmp_path)
    with pytest.raises(ConfigError, match=r"working directory.*infra/local"):
        Services.here()


def test_recorded_ports_are_ours_too(tmp_path: Path) -> None:
    """A shell that only exports PREFECT_API_URL, without SLIPWAY_PREFECT_PORT, logs in."""
    pair = ensure_credentials(tmp_path)
    started, shell = Services(ROOT, tmp_path, any_port(), any_port()), Services(ROOT, tmp_path, 4200, 5000)
    assert shell.credentials_for(f"{started.prefect_url}/api") is None
    started.record_ports()
    assert shell.credentials_for(f"{started.prefect_url}/api") == pair
    assert shell.credentials_for(started.mlflow_url) == pair
    (tmp_path / "ports.json").write_text("[]")
    assert shell.credentials_for(started.mlflow_url) is None
