"""A port of another machine's loopback, reached through ssh: `ssh -N -L 127.0.0.1:HERE:127.0.0.1:THERE HOST`.

OpenSSH's own client, so that keys, jump hosts and known hosts are those of ~/.ssh/config; it asks no question. The
tunnel is a child in our process group and ends with it.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from urllib.parse import urlsplit

from slipway.errors import PortTakenError, ResourceError
from slipway.system.ports import PORT_TRIES, any_port, require_free

CONNECT_S = 15.0
CLOSE_S = 5.0
_OPTIONS = (
    "BatchMode=yes",
    "ExitOnForwardFailure=yes",
    f"ConnectTimeout={CONNECT_S:.0f}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)


@dataclass
class Tunnel:
    """An open tunnel: connect to 127.0.0.1:`port`."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @property
    def is_open(self) -> bool:
        """Whether ssh still runs; a cut link ends it after about 15 s."""
        return self.process.poll() is None

    def close(self) -> None:
        """End ssh; connections through it break."""
        self.process.terminate()
        try:
            self.process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def message(self) -> str:
        """The last line that ssh printed."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.poll()}"


def open_tunnel(host: str, port: int, timeout_s: float = 2 * CONNECT_S) -> Tunnel:
    """A tunnel to `port` on the loopback of `host` (`ssh://user@host[:port]`), ready to be connected to.

    Raises ResourceError with ssh's own words when it does not come about in `timeout_s` seconds. A free port that
    another process takes before ssh does is left to it.
    """
    for _ in range(PORT_TRIES - 1):
        with suppress(PortTakenError):
            return _open(host, port, timeout_s)
    return _open(host, port, timeout_s)


def _open(host: str, port: int, timeout_s: float) -> Tunnel:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the tunnel)
    try:
        here = any_port()
        process = subprocess.Popen(
            command(host, here, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    except OSError as err:
        errors.close()
        raise _failed(host, port, str(err)) from err
    tunnel = Tunnel(host, here, process, errors)
    deadline = time.monotonic() + timeout_s
    while not _listens(here):
        if not tunnel.is_open or time.monotonic() > deadline:
            message = tunnel.message() if not tunnel.is_open else f"not open after {timeout_s:.0f} s"
            tunnel.close()
            require_free("127.0.0.1", here)
            raise _failed(host, port, message)
        time.sleep(0.05)
    return tunnel


def command(host: str, here: int, port: int) -> list[str]:
    """ssh's command line for `ssh://user@host[:port]`."""
    url = urlsplit(host)
    options = [part for option in _OPTIONS for part in ("-o", option)]
    login = ["-p", str(url.port)] if url.port else []
    user = f"{url.username}@" if url.username else ""
    forward = f"127.0.0.1:{here}:127.0.0.1:{port}"
    return ["ssh", "-N", *options, *login, "-L", forward, "--", f"{user}{url.hostname or ''}"]


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _failed(host: str, port: int, message: str) -> ResourceError:
    return ResourceError(
        f"tunnel to port {port} of {host}", message, "ssh that logs in without a question", f"try `ssh {host} true`"
    )
