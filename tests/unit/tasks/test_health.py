"""Services asked before any work."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from slipway.ops.credentials import ensure_credentials
from slipway.system.ports import any_port
from tasks.health import require_tracking


def test_an_absent_server_is_a_resource_error_before_any_work() -> None:
    port = any_port()
    with pytest.raises(ResourceError, match=rf"MLflow: http://\*\*\*@127.0.0.1:{port} does not answer.*make up"):
        require_tracking(TrackingConfig(uri=f"http://me:pw@127.0.0.1:{port}"))


def test_file_and_database_uris_need_no_server() -> None:
    require_tracking(TrackingConfig(uri="sqlite:///nowhere.db"))


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def servers() -> Iterator[list[int]]:
    """The ports of two servers that answer every GET with 200."""
    running = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) for _ in range(2)]
    for server in running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [server.server_address[1] for server in running]
    for server in running:
        server.shutdown()
        server.server_close()


def test_our_own_server_gets_the_credentials_and_no_other(
    servers: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, foreign = servers
    pair = ensure_credentials(tmp_path)
    monkeypatch.setenv("SLIPWAY_SERVICES", str(tmp_path))
    monkeypatch.setenv("SLIPWAY_MLFLOW_PORT", str(ours))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "SLIPWAY_MLFLOW_LOGIN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    require_tracking(TrackingConfig(uri=f"http://127.0.0.1:{ours}"))
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == pair.user
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == pair.password
    require_tracking(TrackingConfig(uri=f"http://127.0.0.1:{foreign}"))
    assert not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & set(os.environ)


def test_a_login_of_the_users_own_stays(servers: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ensure_credentials(tmp_path)
    monkeypatch.setenv("SLIPWAY_SERVICES", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.delenv("SLIPWAY_MLFLOW_LOGIN", raising=False)
    require_tracking(TrackingConfig(uri=f"http://127.0.0.1:{servers[1]}"))
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
