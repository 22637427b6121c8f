"""TCP ports of this machine, as `agent/ports.py` sees them, which is handed on here; and one that nobody uses.

Short because the agent needs almost all of it.
"""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from pathlib import Path

from slipway.agent.ports import UNSEEN, free_port, holder, is_free, open_socket, require_allowed, require_free

__all__ = ["PORT_TRIES", "UNSEEN", "any_port", "free_port", "holder", "is_free", "require_allowed", "require_free"]

PORT_TRIES = 4  # of whoever lets another program bind a port that was free when we looked

_GIVEN_BY_SYSTEM = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 10240, 29999  # above the ports of known services, below Kubernetes' node ports
_ENOUGH = 1000  # ports to draw from; with fewer the system chooses
_DRAWS = 100
_reserved: deque[int] = deque()  # descriptors of the last ports that this process was given
_KEPT = 32


def any_port(host: str = "127.0.0.1") -> int:
    """A free port for a server that is told it and binds it later, in seconds perhaps.

    Not one of those that the system gives to outgoing connections and to servers that ask for any: they are taken again
    at once. No other process gets it from here until this process ends or has asked for 32 more. Where the system keeps
    almost all ports for itself it chooses.
    """
    for port in _drawn():
        if is_free(host, port) and _reserve(port):
            return port
    with open_socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _drawn() -> list[int]:
    try:
        first, last = (int(word) for word in _GIVEN_BY_SYSTEM.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # not Linux
        return []
    ports = [port for port in range(_FIRST, _LAST + 1) if not first <= port <= last]
    return random.sample(ports, _DRAWS) if len(ports) >= _ENOUGH else []


def _reserve(port: int) -> bool:
    """Whether this process is the first to take the name of this port, which goes with it however it ends."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0slipway-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name.detach())
    while len(_reserved) > _KEPT:
        os.close(_reserved.popleft())
    return True
