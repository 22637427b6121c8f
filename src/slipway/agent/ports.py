"""TCP ports of this machine: which are free, and who holds one that is not (out of /proc)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from slipway.errors import PortTakenError, ResourceError

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")  # first port that every user may listen on
UNSEEN = "a process that this user cannot see"
_LISTENS = "0A"  # state of a socket in /proc/net/tcp


def is_free(host: str, port: int) -> bool:
    """Whether this user's server could listen there now. Raises ResourceError when `host` is no address of this
    machine."""
    with open_socket(host) as probe:
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
    require_allowed(host, last, "the last one of deploy.ports")
    raise ResourceError(
        "ports", f"{first}..{last} on {host} all in use", "a free one", "stop what holds them, or set deploy.ports"
    )


def require_free(host: str, port: int, next_step: str = "stop it or choose another port", of: str = "") -> None:
    """Raises PortTakenError naming the port and its holder unless it is free. `of`: whose port it is, for the error."""
    if not is_free(host, port):
        require_allowed(host, port, of)
        raise PortTakenError(f"port {port} {of or f'on {host}'}", f"in use by {holder(port)}", "a free port", next_step)


def require_allowed(host: str, port: int, of: str = "") -> None:
    """Raises ResourceError for a port that the system gives to root only. `of`: whose port it is, for the error."""
    with open_socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as err:
            if err.errno != errno.EACCES:
                return  # taken, or no address of this machine: others say so
            first = _first_unprivileged()
            raise ResourceError(
                f"port {port}, {of}" if of else f"port {port} on {host}",
                f"not for {f'user {os.geteuid()}' if os.geteuid() else 'a root without that right'}: below {first}",
                f"a port from {first} on",
                f"choose one; or have an admin lower net.ipv4.ip_unprivileged_port_start to {port}",
            ) from err


def holder(port: int) -> str:
    """Name and pid of a process that listens on a port, as far as the system tells this user."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in Path("/proc").glob("[0-9]*/fd") if sockets else ():
        with suppress(OSError):  # it ended while we looked, or is another user's
            if any(str(link.readlink()) in sockets for link in folder.iterdir()):
                name = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (pid {folder.parent.name})"
    return UNSEEN


def open_socket(host: str) -> socket.socket:
    """As a server would open it: a port whose last connections are only waiting to expire is free."""
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return probe


def _first_unprivileged() -> int:
    try:
        return int(UNPRIVILEGED.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not Linux
        return 1024


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port: field 10 of the lines of /proc/net/tcp and tcp6."""
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", name).read_text(encoding="utf-8").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
