"""Ports out of /proc: who listens is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from slipway.agent import ports
from slipway.errors import ResourceError
from tests.support.stranger import NOBODY, as_nobody


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


def test_a_port_of_roots_is_no_port_in_use() -> None:
    first = int(ports.UNPRIVILEGED.read_text())
    if os.geteuid() != 0 or first < 2:
        pytest.skip("needs root, to be another user, and a port below net.ipv4.ip_unprivileged_port_start")

    for of, ask in (
        ("of Prefect", lambda: ports.require_free("127.0.0.1", first - 1, of="of Prefect")),
        ("the last one of deploy.ports", lambda: ports.free_port("127.0.0.1", first - 2, first - 1)),
    ):
        assert as_nobody(lambda ask=ask: refusal(ask)).startswith(
            f"port {first - 1}, {of}: not for user {NOBODY}: below {first}; expected a port from {first} on"
        )
    assert as_nobody(lambda: ports.free_port("127.0.0.1", first - 2, first + 2000)) >= first


def refusal(action: Callable[[], object]) -> str:
    """What it raises, as text."""
    try:
        return f"no refusal: {action()}"
    except ResourceError as err:
        return str(err)
