"""Ports out of /proc: who listens is named."""

from __future__ import annotations

import os
import socket

import pytest

from slipway.agent import ports
from slipway.errors import ResourceError


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_whoever_listens_is_named_and_a_connection_does_not_count(family: int, host: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            assert ports.holder(port).endswith(f"(pid {os.getpid()})")
            assert ports.holder(client.getsockname()[1]) == ports.UNSEEN
        with pytest.raises(ResourceError, match=rf"port {port} on {host}: in use by .*\(pid {os.getpid()}\)"):
            ports.require_free(host, port)
