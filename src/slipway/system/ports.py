"""TCP ports of this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import errno
import socket

import psutil

from slipway.errors import ResourceError

UNSEEN = "a process that this user cannot see"


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises ResourceError when `host` is no address of this machine."""
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as err:
            if err.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise ResourceError(
                f"address {host}:{port}", err.strerror, "an address of this machine", "mend the host setting"
            ) from err
    return True


def free_port(host: str, first: int, last: int) -> int:
    """The first free port of first..last (both included). Raises ResourceError when there is none."""
    for port in range(first, last + 1):
        if is_free(host, port):
            return port
    raise ResourceError(
        "ports", f"{first}..{last} on {host} all in use", "a free one", "stop what holds them, or set deploy.ports"
    )


def any_port(host: str = "127.0.0.1") -> int:
    """A free port that the system chooses."""
    with _socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free(host: str, port: int, next_step: str = "stop it or choose another port", of: str = "") -> None:
    """Raises ResourceError naming the port and its holder unless it is free. `of`: whose port it is, for the error."""
    if not is_free(host, port):
        raise ResourceError(f"port {port} {of or f'on {host}'}", f"in use by {holder(port)}", "a free port", next_step)


def holder(port: int) -> str:
    """Name and pid of the process that listens on a port, as far as the system tells this user."""
    try:
        pids = [
            c.pid
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
        ]
        return f"{psutil.Process(pids[0]).name()} (pid {pids[0]})" if pids else UNSEEN
    except psutil.Error:
        return UNSEEN


def _socket(host: str) -> socket.socket:
    """As a server would open it: a port whose last connections are only waiting to expire is free."""
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return probe
