"""Engine processes: start one, know it again, stop it and nothing else.

A process is named by pid and creation time: a pid alone may belong to a stranger after a reboot or a crash.
Attached (evaluation): it stays in the caller's process group, so that ending the stage ends it. Detached (deployment):
a session of its own, so that it outlives the caller.
"""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from slipway.engines.bundle import bundle_path, command, read_serve
from slipway.errors import EngineError, ResourceError
from slipway.store.artifacts import Engine
from slipway.system import openmp

HEALTH_EVERY_S = 0.1


class Server(BaseModel):
    """A running engine: who it is, where it answers, where it logs."""

    model_config = ConfigDict(frozen=True)

    pid: int
    create_time: float
    host: str
    port: int
    model: str
    log: str

    @property
    def url(self) -> str:
        """Base of the OpenAI-compatible API."""
        return f"http://{self.host}:{self.port}/v1"


def start(
    engine: Engine | Path, host: str, port: int, log_path: Path, *, detach: bool = False, timeout_s: float = 120
) -> Server:
    """Serve a bundle and wait until it is healthy.

    Raises ResourceError when the port is taken, EngineError when the process ends or is not healthy in `timeout_s`;
    then nothing is left running.
    """
    bundle = bundle_path(engine)
    serve = read_serve(bundle)
    check_port(host, port)
    process = _spawn(command(bundle, serve, host, port), log_path, detach)
    server = Server(
        pid=process.pid, create_time=process.create_time(), host=host, port=port, model=serve.alias, log=str(log_path)
    )
    try:
        _await_health(server, timeout_s)
    except BaseException:
        stop(server, grace_s=0)
        raise
    return server


@contextmanager
def serving(engine: Engine | Path, log_path: Path, host: str = "127.0.0.1", timeout_s: float = 120) -> Iterator[Server]:
    """An attached server on a free port for the time of the block."""
    server = start(engine, host, _any_port(host), log_path, timeout_s=timeout_s)
    try:
        yield server
    finally:
        stop(server)


def stop(server: Server, grace_s: float = 10) -> bool:
    """End the server: TERM, then KILL after `grace_s`. False when it was not running any more."""
    process = _process(server)
    if process is None:
        return False
    try:
        for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            process.send_signal(sig)
            if _ended(server, process, wait_s):
                break
    except psutil.NoSuchProcess:
        pass
    return True


def _ended(server: Server, process: psutil.Process, wait_s: float) -> bool:
    """Whether it ended within `wait_s`. A zombie has ended: whoever started it, alive or an init that reaps late, may never ask."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            process.wait(0.02)  # reaps our own child
            return True
        except psutil.TimeoutExpired:
            if _process(server) is None:
                return True
    return False


def is_running(server: Server) -> bool:
    return _process(server) is not None


def is_healthy(server: Server, timeout_s: float = 5) -> bool:
    """The process lives and its `/health` says ok: model loaded, ready for requests."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        healthy = connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return healthy and is_running(server)


def check_alive(server: Server) -> None:
    """EngineError with the end of its log when the server has died."""
    if not is_running(server):
        raise _died(server, "a server that keeps running")


def log_tail(path: Path, lines: int = 12) -> str:
    """Last lines of a log, empty when there is none."""
    return "\n".join(path.read_text(errors="replace").strip().splitlines()[-lines:]) if path.exists() else ""


def free_port(host: str, first: int, last: int) -> int:
    """The first port of first..last (inclusive) that nothing listens on; ResourceError when all are taken."""
    for port in range(first, last + 1):
        if _can_bind(host, port):
            return port
    raise ResourceError(
        "ports", f"{first}..{last} on {host} all in use", "a free one", "stop what holds them, or set deploy.ports"
    )


def check_port(host: str, port: int) -> None:
    """ResourceError naming the port, and its holder when the system tells, unless the port can be bound."""
    if not _can_bind(host, port):
        raise ResourceError(
            f"port {port} on {host}", f"in use by {_holder(port)}", "a free port", "stop it or choose another port"
        )


def _spawn(argv: list[str], log_path: Path, detach: bool) -> psutil.Process:
    """posix_spawn, not Popen: a detached server must outlive its handle without a warning."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    if log_path.exists():  # an error shows the end of this start's log, not of the last one's
        log_path.replace(log_path.with_name(f"{log_path.name}.1"))
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        pid = os.posix_spawn(argv[0], argv, {**os.environ, **openmp.ENVIRONMENT}, file_actions=actions, setsid=detach)
    except OSError as err:
        raise EngineError(
            f"program {argv[0]}", err.strerror, "an executable for this machine", "run the engine stage again"
        ) from err
    return psutil.Process(pid)


def _await_health(server: Server, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_healthy(server, timeout_s=2):
        if not is_running(server):
            check_port(server.host, server.port)  # someone else took it between our look and its bind
            raise _died(server, "a server that answers /health")
        if time.monotonic() > deadline:
            raise _died(server, f"healthy within {timeout_s:.0f} s")
        time.sleep(HEALTH_EVERY_S)


def _died(server: Server, expected: str) -> EngineError:
    state = "not healthy yet" if is_running(server) else "died"
    return EngineError(
        f"engine server on port {server.port}",
        f"{state}. Last log lines:\n{log_tail(Path(server.log))}",
        expected,
        f"read {server.log}",
    )


def _process(server: Server) -> psutil.Process | None:
    """The process that we started, or None when it ended, is a zombie, or its pid is a stranger's."""
    try:
        process = psutil.Process(server.pid)
        same = abs(process.create_time() - server.create_time) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError as err:
            if err.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise ResourceError(
                f"address {host}:{port}", err.strerror, "an address of this machine", "mend the host setting"
            ) from err
    return True


def _any_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.bind((host, 0))
        return int(s.getsockname()[1])


def _holder(port: int) -> str:
    """Name and pid of the listener, as far as the system tells this user."""
    try:
        pids = [
            c.pid
            for c in psutil.net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
        ]
        return f"{psutil.Process(pids[0]).name()} (pid {pids[0]})" if pids else "a process that this user cannot see"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return "a process that this user cannot see"
