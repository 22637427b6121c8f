"""Who listens on a port: every process that shares it, and nobody of another address."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from slipway.agent.haproxy.listeners import Listener, command_line, listeners, overlap, process_ids


def test_every_process_on_a_port_is_named_and_other_addresses_are_not() -> None:
    with socket.socket() as one, socket.socket() as other:
        for listener, host in ((one, "127.0.0.1"), (other, "127.0.0.3")):
            listener.bind((host, one.getsockname()[1] if listener is other else 0))
            listener.listen()
        port = one.getsockname()[1]
        assert [(there.pid, there.host) for there in listeners("127.0.0.1", port)] == [(os.getpid(), "127.0.0.1")]
        assert [there.host for there in listeners("0.0.0.0", port)] == ["127.0.0.1", "127.0.0.3"]
        assert f"pid {os.getpid()} (" in str(listeners("127.0.0.1", port)[0])
    assert listeners("127.0.0.1", port) == []


def test_ipv6_is_seen() -> None:
    with socket.socket(socket.AF_INET6) as there:
        there.bind(("::1", 0))
        there.listen()
        assert [one.host for one in listeners("::1", there.getsockname()[1])] == ["::1"]


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "10.0.0.1", True),
        ("::", "10.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_addresses_that_meet(one: str, other: str, meets: bool) -> None:
    assert overlap(one, other) is meets
    assert overlap(other, one) is meets


def test_a_command_line_is_read_and_an_ended_process_has_none() -> None:
    assert command_line(os.getpid())[0]
    assert os.getpid() in process_ids()
    assert command_line(2**22 + 1) == ()
    assert sys.executable
    assert str(Listener(None, "127.0.0.1")) == "a process of another user"
