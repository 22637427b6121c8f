"""Engine processes that outlive whoever starts them, for weeks: start one, know it again, stop it and nothing else.

A process is known by pid and start (`system/processes.py`): a pid alone may belong to a stranger after a reboot or a
crash. It has a session of its own, and a watcher that bounds its log. What a stage serves for a while is a job of the
runners instead (`engines/serving.py`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from slipway.engines.bundle import bundle_path, model_of, read_plan
from slipway.engines.driver import ServePlan
from slipway.engines.rendering import Rendered, Rendering
from slipway.errors import ConfigError, EngineError
from slipway.store.artifacts import Engine
from slipway.system import http, openmp, ports, processes, rotation
from slipway.system.logins import without_logins
from slipway.system.processes import ProcessIdentity

HEALTH_EVERY_S = 0.1


class Server(ProcessIdentity):
    """A running engine: which process it is, where it answers, where it logs."""

    host: str
    port: int
    model: str
    log: str

    @property
    def url(self) -> str:
        """Base of the OpenAI-compatible API."""
        return f"{http.base_url(self.host, self.port)}/v1"


def start(engine: Engine | Path, host: str, port: int, log_path: Path, *, timeout_s: float = 120) -> Server:
    """Serve a bundle and wait until it is healthy.

    Raises ConfigError for a bundle that is served in a container, ResourceError when the port is taken, EngineError
    when the process ends or is not healthy in `timeout_s`; then nothing is left running.
    """
    bundle = bundle_path(engine)
    plan = read_plan(bundle)
    ports.require_free(host, port)
    process = _spawn(_rendered(plan, bundle, host, port, log_path), log_path)
    server = Server(**process.model_dump(), host=host, port=port, model=plan.alias, log=str(log_path))
    try:
        _await_health(server, timeout_s)
    except BaseException:
        stop(server, grace_s=0)
        raise
    return server


def stop(server: Server, grace_s: float = 10) -> bool:
    """End the server: SIGTERM, then SIGKILL after `grace_s` seconds. False when it was not running any more."""
    return processes.stop(server, grace_s)


def is_running(server: Server) -> bool:
    """Whether the process lives; it may not answer yet."""
    return processes.is_alive(server)


def is_healthy(server: Server, timeout_s: float = 5) -> bool:
    """The process lives and its `/health` says ok: model loaded, ready for requests."""
    url = f"{http.base_url(server.host, server.port)}/health"
    return http.is_healthy(url, timeout_s, direct=True) and is_running(server)


def check_alive(server: Server) -> None:
    """EngineError with the end of its log when the server has died."""
    if not is_running(server):
        raise _died(server, "a server that keeps running")


def log_tail(path: Path, lines: int = 12) -> str:
    """Last lines of a log, empty when there is none."""
    return (
        "\n".join(path.read_text(errors="replace", encoding="utf-8").strip().splitlines()[-lines:])
        if path.exists()
        else ""
    )


def _rendered(plan: ServePlan, bundle: Path, host: str, port: int, log_path: Path) -> Rendered:
    """The start, with its cache and config files in `start` beside the log where the plan has any."""
    if plan.image is not None:
        raise ConfigError(
            f"engine {bundle}",
            f"served in {plan.image}",
            "an engine that is a process of this machine",
            "`slipway serve` runs it in its container",
        )
    model = model_of(bundle)
    rendering = Rendering(plan, bundle, model, log_path.parent / "start", host, port)
    if plan.caches or plan.files:
        rendering.write()
    return rendering.render()


def _spawn(start: Rendered, log_path: Path) -> ProcessIdentity:
    """posix_spawn, not Popen: the server must outlive its handle without a warning."""
    argv = list(start.argv)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    if log_path.exists():  # an error shows the end of this start's log, not of the last one's
        log_path.replace(log_path.with_name(f"{log_path.name}.1"))
    alive_reader, alive_writer = os.pipe()  # ends when the engine does
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, alive_writer, 3),
    ]
    try:
        environment = {**without_logins(os.environ), **openmp.ENVIRONMENT, **start.environment}
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
        _spawn_log_watcher(log_path, alive_reader)
    except OSError as err:
        raise EngineError(
            f"program {argv[0]}", err.strerror, "an executable for this machine", "`slipway run` makes it again"
        ) from err
    finally:
        os.close(alive_reader)
        os.close(alive_writer)
    return processes.identify(pid)


def _spawn_log_watcher(log_path: Path, alive: int) -> None:
    """Start the process that bounds the log. It holds none of our outputs: whoever reads them through a pipe would wait
    for as long as the engine serves."""
    argv, environment = rotation.watcher(log_path)
    actions = [
        (os.POSIX_SPAWN_DUP2, alive, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)


def _await_health(server: Server, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_healthy(server, timeout_s=2):
        if not is_running(server):
            ports.require_free(server.host, server.port)  # someone else took it between our look and its bind
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
