"""Ports that are free, and who holds those that are not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque

import pytest

from slipway.errors import ResourceError
from slipway.system import ports

HOST = "127.0.0.1"


@pytest.fixture
def busy():
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_busy_port_names_its_holder(busy):
    assert not ports.is_free(HOST, busy)
    assert ports.holder(busy).endswith(f"(pid {os.getpid()})")
    with pytest.raises(ResourceError, match=rf"port {busy} of MLflow: in use by .*\(pid {os.getpid()}\).*Next: choose"):
        ports.require_free(HOST, busy, "choose another", of="of MLflow")


def test_the_first_free_port_of_a_range(busy):
    assert busy < ports.free_port(HOST, busy, busy + 20) <= busy + 20
    with pytest.raises(ResourceError, match=f"{busy}..{busy} on {HOST} all in use"):
        ports.free_port(HOST, busy, busy)


@pytest.mark.parametrize("system", ["32768 60999", "1024 65535", "no numbers"])
def test_any_port_can_be_listened_on(system, tmp_path, monkeypatch):
    given = tmp_path / "ip_local_port_range"
    given.write_text(system)
    monkeypatch.setattr(ports, "_GIVEN_BY_SYSTEM", given)
    port = ports.any_port()
    assert (port < 32768) == (system == "32768 60999")
    assert ports.is_free(HOST, port)
    ports.require_free(HOST, port)
    with socket.socket() as listener:
        listener.bind((HOST, port))
        listener.listen()


def test_no_other_process_is_given_the_same_port(monkeypatch):
    monkeypatch.setattr(ports, "_drawn", lambda: range(21000, 21100))
    port = ports.any_port()
    ask = "from slipway.system import ports; ports._drawn = lambda: range(21000, 21100); print(ports.any_port())"
    command = [sys.executable, "-c", ask]
    other = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert 21000 <= port < other < 21100


def test_the_last_ports_stay_reserved_and_older_ones_are_given_up(monkeypatch):
    monkeypatch.setattr(ports, "_reserved", deque())
    monkeypatch.setattr(ports, "_KEPT", 2)
    given = [ports.any_port() for _ in range(3)]
    assert len(set(given)) == 3 and len(ports._reserved) == 2
    assert ports._reserve(given[0]) and not ports._reserve(given[2])
    for descriptor in ports._reserved:
        os.close(descriptor)


def test_a_port_whose_last_connection_only_expires_is_free():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            server, _ = listener.accept()
            server.close()  # the side that closes first waits in TIME_WAIT
            assert client.recv(1) == b""
    assert ports.is_free(HOST, port)


@pytest.mark.parametrize("host", ["203.0.113.7", "nowhere.invalid"])
def test_an_address_that_is_not_this_machines_is_one_error(host):
    with pytest.raises(ResourceError, match=f"address {host}:8080.*an address of this machine"):
        ports.is_free(host, 8080)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 in this Python")
def test_an_ipv6_address(busy):
    assert ports.is_free("::1", ports.any_port("::1"))
