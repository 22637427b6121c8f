"""Services asked before any work."""

from __future__ import annotations

import socket

import pytest

from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from tasks.health import require_tracking


def test_an_absent_server_is_a_resource_error_before_any_work() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ResourceError, match=rf"MLflow: http://\*\*\*@127.0.0.1:{port} does not answer.*make up"):
        require_tracking(TrackingConfig(uri=f"http://me:pw@127.0.0.1:{port}"))


def test_file_and_database_uris_need_no_server() -> None:
    require_tracking(TrackingConfig(uri="sqlite:///nowhere.db"))
