"""Ports that are free, and who holds those that are not."""

from __future__ import annotations

import os
import socket

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


def test_a_port_of_the_systems_choice_can_be_listened_on():
    port = ports.any_port()
    assert ports.is_free(HOST, port)
    ports.require_free(HOST, port)
    with socket.socket() as listener:
        listener.bind((HOST, port))
        listener.listen()


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
