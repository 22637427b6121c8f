"""A docker engine, reached over a unix socket, TCP or ssh, that may go away for a while and come back.

`ask` makes one call and tells unreachable (retry) from refused (an answer). What fails to reach the engine drops the
connection, so that the next call makes a new one: an ssh transport that died does not come back by itself.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import docker
import paramiko
import requests
import urllib3
from docker.errors import APIError, DockerException

from slipway.errors import ConfigError, ResourceError
from slipway.system.retry import until_answered

T = TypeVar("T")
CALL_S = 20.0  # seconds until a call without an answer counts as unreachable
PULL_S = 900.0  # a registry may be silent for a while in the middle of a pull
LINK_S = 15  # seconds after which a cut ssh link is given up
LOST = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    paramiko.SSHException,
    OSError,
    EOFError,
    DockerException,
)


class UnreachableError(Exception):
    """The engine did not answer; the call may or may not have had its effect."""


class DockerClient:
    """One engine by its address: `unix://`, `tcp://`, `ssh://user@host[:port]`; null takes DOCKER_HOST, else this
    machine's.
    """

    def __init__(self, host: str | None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or docker.constants.DEFAULT_UNIX_SOCKET
        self._client: Any = None
        self._version = "auto"

    @property
    def remote(self) -> bool:
        """Whether paths of this machine may mean something else there."""
        return not self.host.startswith(("unix://", "http+unix://"))

    def connect(self, timeout_s: float = CALL_S) -> Any:
        """A client of its own, for a thread or a long call. Raises UnreachableError."""
        try:
            _listens(self.host)
            client = docker.DockerClient.from_env(
                environment={**os.environ, "DOCKER_HOST": self.host}, timeout=timeout_s, version=self._version
            )
            self._version = client.api._version  # asked for once: podman takes half a second to say it
            _give_up_cut_links(client)
        except APIError as err:
            raise UnreachableError(str(err)) from err
        except LOST as err:
            raise UnreachableError(_last_line(err)) from err
        return client

    def ask(self, call: Callable[[Any], T]) -> T:
        """`call(client)`. Raises UnreachableError, or docker's APIError when the engine answered with one."""
        if self._client is None:
            self._client = self.connect()
            self._closing = weakref.finalize(self, close, self._client)
        try:
            if not self.remote:
                _listens(self.host)  # docker's client leaks the socket of a connection that failed
            return call(self._client)
        except APIError:
            raise
        except LOST as err:
            self.drop()
            raise UnreachableError(_last_line(err)) from err

    def ask_until_answered(self, call: Callable[[Any], T], patience_s: float) -> T:
        """`ask` until it answers. Raises ResourceError after `patience_s` seconds."""
        try:
            return until_answered(lambda: self.ask(call), UnreachableError, seconds=patience_s)
        except UnreachableError as err:
            raise self.unreachable_for(err, patience_s) from err

    def unreachable_for(self, err: UnreachableError, seconds: float) -> ResourceError:
        """The error after `seconds` without an answer."""
        return ResourceError(
            f"docker engine {self.host}",
            f"no answer for {seconds:.0f} s: {err}",
            "a running engine",
            f"check it with `DOCKER_HOST={self.host} docker info` (service, group, ssh key), then run again: "
            "a job that runs there is adopted",
        )

    def drop(self) -> None:
        """Close the connection; the next call makes another."""
        if self._client is not None:
            self._client = None
            self._closing()


def close(client: Any) -> None:
    """Close a client whose connection may be dead already."""
    try:
        client.close()
    except LOST:
        return


def _listens(host: str) -> None:
    """Whether a socket or an ssh port can be connected to: paramiko waits minutes for a machine that is off. Raises
    OSError.
    """
    if host.startswith("ssh://"):
        _ssh_listens(host)
    elif "unix://" in host:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CALL_S)
            probe.connect("/" + host.partition("unix://")[2].lstrip("/"))


def _ssh_listens(host: str) -> None:
    url = urllib3.util.parse_url(host)
    file = os.path.expanduser("~/.ssh/config")  # noqa: PTH111 (as paramiko and docker read it)
    named = paramiko.SSHConfig.from_path(file).lookup(url.host or "") if os.path.exists(file) else {}  # noqa: PTH110
    if "proxycommand" not in named:
        port = url.port or int(named.get("port", 22))
        socket.create_connection((named.get("hostname", url.host or ""), port), timeout=CALL_S).close()


def _give_up_cut_links(client: Any) -> None:
    """A cut link must end the connection within seconds, not after TCP's quarter of an hour."""
    adapter = getattr(client.api, "_custom_adapter", None)
    if ssh := getattr(adapter, "ssh_client", None):
        transport = ssh.get_transport()
        transport.set_keepalive(5)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_S * 1000)


def _last_line(err: Exception) -> str:
    return str(err).strip().splitlines()[-1][:300] if str(err).strip() else type(err).__name__


def client_at(host: str | None) -> DockerClient:
    """The engine of this address. Raises ConfigError for one that docker does not understand."""
    engine = DockerClient(host)
    if not engine.host.startswith(("unix://", "http+unix://", "tcp://", "ssh://", "http://", "https://")):
        raise ConfigError(
            "docker host", engine.host, "unix://, tcp:// or ssh://", "correct target.runner.host or DOCKER_HOST"
        )
    return engine
