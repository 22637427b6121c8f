"""The engines of a target's releases: started, known again by `endpoint.json`, stopped; processes or containers.

{"url": null, "port": 8091}                                  written before the start: should we die in between, the
                                                             engine is known by its program or its label
{"url": ..., "host": ..., "port": ..., "model": ..., "log": ..., "health": ...,
 "pid": ..., "started": ..., "boot": ...}                    a process; or {"container": id, "runtime": "docker"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slipway.agent import engine_process, health, ports, processes
from slipway.agent.engine_container import Runtime
from slipway.agent.files import disk_full_is_named, remove, write_atomic
from slipway.agent.paths import NAME, TargetPaths
from slipway.agent.processes import Process
from slipway.agent.records import Fields, is_present, read_json
from slipway.agent.settings import RUNTIMES, Settings, read_settings
from slipway.agent.start_plan import StartPlan, read_start
from slipway.errors import ConfigError, EngineError, PortTakenError, SlipwayError, StateError

ENDPOINT, LOG = "endpoint.json", "engine.log"
BEGUN = {"url": None}  # the record of an engine that is being launched
MOST_PORTS = 3  # that a start tries
_MEND = "`slipway stop` ends the engine, whatever the file says, and removes it; then promote or roll back again"


@dataclass(frozen=True)
class Endpoint:
    """A running engine: where it answers under which model name, where it logs, and which process or container it is
    (`pid` 0: a container or a job; `started` -1: a record of an earlier version). `job` and `restart`: of Slurm;
    `key_file`: of the key that it asks for (`engine_key.py`), `ca_file`: of what signed its certificate, empty for
    none."""

    host: str
    port: int
    model: str
    log: str
    health: str = "/health"
    pid: int = 0
    started: int = -1
    boot: str = ""
    container: str = ""
    runtime: str = ""
    job: int = 0
    restart: int = 0
    key_file: str = ""
    ca_file: str = ""

    @property
    def url(self) -> str:
        """Base of the OpenAI-compatible API."""
        return f"{health.base_url(self.host, self.port, tls=bool(self.ca_file))}/v1"

    @property
    def process(self) -> Process:
        """The process that it is."""
        return Process(self.pid, self.started, self.boot)

    def to_json(self) -> dict[str, Any]:
        """As `endpoint.json` holds it and clients read it."""
        which: tuple[str, ...] = ("container", "runtime") if self.container else ("pid", "started", "boot")
        which = ("job", "restart", "key_file", "ca_file") if self.job else which
        document = {name: value for name, value in asdict(self).items() if name in (*which, *_COMMON)}
        return {"url": self.url, **document}


_COMMON = ("host", "port", "model", "log", "health")


class Engines:
    """The engines of one target."""

    def __init__(self, paths: TargetPaths) -> None:
        self._paths = paths

    def start(self, name: str, settings: Settings) -> Endpoint:
        """Serve a release beside whatever serves, and wait for its health. On error nothing of it is left running.

        Raises StateError without a start plan, ResourceError without a free port, EngineError when the engine ends or
        is not healthy in its time.
        """
        plan = read_start(self._paths.release(name))
        first, last = settings.ports
        for more in reversed(range(MOST_PORTS)):
            port = ports.free_port(settings.host, first, last)
            try:
                return self._start_on(port, name, plan, settings)
            except PortTakenError as err:  # between our look and its bind
                if port == last:
                    raise
                first, taken = port + 1, err
            if not more:
                raise self._died_again(name, taken) from taken
        raise AssertionError("a last try returns or raises")

    def _died_again(self, name: str, taken: PortTakenError) -> EngineError:
        """A port is lost to another process once in a long while: what dies this often has a cause of its own."""
        log = self._paths.release(name) / LOG
        value = f"died {MOST_PORTS} times, last while its port was taken ({taken.thing}: {taken.value})"
        value += f". Last log lines:\n{health.log_tail(log)}"
        return EngineError(f"engine {name}", value, "an engine that stays", f"read {log}")

    def _start_on(self, port: int, name: str, plan: StartPlan, settings: Settings) -> Endpoint:
        release = self._paths.release(name)
        endpoint = Endpoint(settings.host, port, plan.alias, str(release / LOG), plan.health)
        return self._recorded_start(name, plan, settings, lambda: self._launch(plan, release, endpoint, settings))

    def _recorded_start(
        self, name: str, plan: StartPlan, settings: Settings, launch: Callable[[], Endpoint]
    ) -> Endpoint:
        """Launch an engine and wait for its health, on record from before it exists; on error nothing of it is left."""
        self._write(name, BEGUN)
        try:
            endpoint = launch()
            self._write(name, endpoint.to_json())
            self._await(plan, endpoint, settings)
        except BaseException:
            self.stop(name, 0.0)
            raise
        return endpoint

    def plan(self, name: str) -> StartPlan:
        """How a release starts. Raises StateError as `read_start`."""
        return read_start(self._paths.release(name))

    def endpoint(self, name: str) -> Endpoint | None:
        """The engine that serves this release; None when it does not run. Raises StateError when its record cannot be
        read."""
        recorded = self._recorded(name)
        if recorded is None or recorded.container or recorded.started >= 0:
            return recorded if recorded and self.runs(recorded) else None
        # a record of an earlier version, by the wall clock, which may have been set since: known by program and port
        for process in engine_process.of_release(self._paths.release(name)):
            if str(recorded.port) in processes.command_line(process.pid):
                return replace(recorded, **asdict(process))
        return None

    def runs(self, endpoint: Endpoint) -> bool:
        """Whether this very process or container still runs; it may not answer yet."""
        if endpoint.container:
            return Runtime(endpoint.runtime, self._paths.root).is_running(endpoint.container)
        return processes.is_alive(endpoint.process)

    def healthy(self, name: str) -> bool:
        """Whether this release's engine runs and answers."""
        endpoint = self.endpoint(name)
        return endpoint is not None and health.answers(
            endpoint.host, endpoint.port, endpoint.health, key_file=endpoint.key_file, ca_file=endpoint.ca_file
        )

    def stop(self, name: str, grace_s: float) -> list[dict[str, Any]]:
        """End every engine of this release and forget its endpoint; a row each of what was ended: `release`, `pid`, and
        `url`, empty where no record says it.

        It is known by its record, and by the program or the container that it is: also when its pid was never written
        down, or the record is damaged.
        """
        try:
            recorded = self._recorded(name)
        except StateError:
            recorded = None
        release = self._paths.release(name)
        running = {process.pid: process for process in engine_process.of_release(release)}
        if recorded and recorded.started >= 0 and recorded.pid:
            running[recorded.pid] = recorded.process
        ended = [pid for pid, process in running.items() if processes.stop(process, grace_s)]
        url = recorded.url if recorded else ""
        rows = [{"release": name, "pid": pid, "url": url if recorded and recorded.pid == pid else ""} for pid in ended]
        if runtime := self._runtime():
            rows += [{"release": name, "pid": 0, "url": url} for _ in runtime.remove(name, grace_s)]
        remove(release / ENDPOINT)
        return rows

    def running(self) -> list[str]:
        """Names of the releases out of which an engine runs, also those whose directory somebody deleted."""
        names = engine_process.releases_that_run(self._paths.releases)
        runtime = self._runtime()
        names |= runtime.releases_that_run() if runtime else set()
        return sorted(name for name in names if re.fullmatch(NAME, name))

    def _launch(self, plan: StartPlan, release: Path, endpoint: Endpoint, settings: Settings) -> Endpoint:
        bundle, where = release / "engine", (endpoint.host, endpoint.port)
        if not plan.image:
            return replace(endpoint, **asdict(engine_process.spawn(plan, bundle, *where, Path(endpoint.log))))
        if not settings.runtime:
            next_step = "set deploy.runtime to docker or podman"
            raise ConfigError(f"engine {release.name}", f"served in {plan.image}", "a container runtime", next_step)
        runtime = Runtime(settings.runtime, self._paths.root)
        container = runtime.run(plan, bundle, *where, release / "start")
        return replace(endpoint, container=container, runtime=settings.runtime)

    def _await(self, plan: StartPlan, endpoint: Endpoint, settings: Settings) -> None:
        def tail() -> str:
            if not self.runs(endpoint):  # it may have died of the port
                ports.require_free(endpoint.host, endpoint.port)
            if endpoint.container:
                Runtime(endpoint.runtime, self._paths.root).save_log(endpoint.container, Path(endpoint.log))
            return health.log_tail(Path(endpoint.log))

        limit_s = plan.limit_s(settings.start_timeout_s)
        health.await_health(
            endpoint.host,
            endpoint.port,
            plan.health,
            limit_s,
            lambda: self.runs(endpoint),
            tail,
            key_file=endpoint.key_file,
            ca_file=endpoint.ca_file,
        )

    def _runtime(self) -> Runtime | None:
        """What runs this target's containers; None where engines are processes, or nobody can tell any more."""
        try:
            program = read_settings(self._paths).runtime
        except SlipwayError:
            return None
        return Runtime(program, self._paths.root) if program else None

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        release = self._paths.release(name)
        with disk_full_is_named(release):
            write_atomic(release / ENDPOINT, json.dumps(document, indent=1) + "\n")

    def _recorded(self, name: str) -> Endpoint | None:
        """What `endpoint.json` names; None without one, and for an engine that was being launched."""
        file, what = self._paths.release(name) / ENDPOINT, f"endpoint of release {name}"
        if not is_present(file):
            return None
        document = read_json(file, what, _MEND)
        known = {"pid", "container", "restart"} & document.keys()
        if document == BEGUN or (not known and isinstance(document.get("port"), int)):  # an earlier version wrote both
            return None
        fields = Fields(document, f"{what}: {file}", _MEND)
        endpoint = Endpoint(
            fields.text("host"), fields.integer("port"), fields.text("model"), fields.text("log"),
            fields.text("health", "/health"),
        )  # fmt: skip
        if "container" in document:
            runtime = fields.text("runtime", pattern="|".join(RUNTIMES))
            return replace(endpoint, container=fields.text("container"), runtime=runtime)
        if "restart" in document:
            attempt = replace(endpoint, job=fields.integer("job"), restart=fields.integer("restart"))
            return replace(attempt, key_file=fields.text("key_file", ""), ca_file=fields.text("ca_file", ""))
        started = fields.integer("started", -1)
        if started < 0:
            fields.number("create_time")
        return replace(endpoint, pid=fields.integer("pid"), started=started, boot=fields.text("boot", ""))
