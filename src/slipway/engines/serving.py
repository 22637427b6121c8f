"""A bundle served as a job of the runners: a process, a container or a Slurm job, started or adopted, asked, stopped.

    work/serving.json   which server runs there: the job's name, its port, a digest of what was started
    work/start/         its own cache and config files
    work/log.txt        its output, start after start

Whoever starts the same server in the same folder adopts one that was left behind by a process that was killed; another
plan, bundle or machine ends it first. Attached to the caller's process group where it is a process of this machine.
"""

from __future__ import annotations

import json
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.agent.start_plan import CACHE
from slipway.config.image import ImageConfig
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.engines.bundle import model_of, read_plan
from slipway.engines.driver import ServePlan
from slipway.engines.endpoint import Endpoint, failed
from slipway.engines.load_guard import LoadGuard
from slipway.engines.rendering import FillCache, Rendering
from slipway.errors import ConfigError, EngineError, PortTakenError
from slipway.runners.base import SERVING, Address, Job, Runner, cancel_patiently, read_job_file, stopped_by_sigterm
from slipway.runners.choose import is_here, runner_for
from slipway.system import http, ports
from slipway.system.files import canonical, remove, sha256_bytes, write_atomic
from slipway.system.tunnel import Tunnel, open_tunnel

RECORD, START = SERVING, "start"
HEALTH_EVERY_S = {"local": 0.1, "docker": 0.5, "slurm": 1.0}
CONTAINER_PORTS = range(20000, 32000)  # below the kernel's ephemeral range
LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"  # noqa: S104 (inside a container, or on a node of a cluster)

# How a job reaches a machine decides no byte of a bundle and no answer: stages that serve leave this out of their code
# version.
CARRIERS = (
    "runners.choose",
    "runners.local",
    "runners.docker",
    "runners.docker_container",
    "runners.slurm",
    "runners.slurm_commands",
    "runners.slurm_script",
    "runners.fence",
    "system.tunnel",
    "engines.load_guard",
    "system.kernel_log",
    "system.memory_pressure",
)

Look = Callable[[], None]


@dataclass(frozen=True)
class Service:
    """What is served, where: a bundle by its plan on `machine`, from the folder `work` of this start. `model`: the
    checkpoint; null: the one of the bundle. `port`: null for a free one. `cache`: folder that it writes its caches to,
    on a local disk; null: one in `work`."""

    bundle: Path
    plan: ServePlan
    machine: TargetConfig
    work: Path
    model: Path | None = None
    port: int | None = None
    fill_cache: FillCache | None = None
    cache: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a process of this machine."""
        return isinstance(self.machine.runner, LocalRunConfig)

    @property
    def cache_folder(self) -> Path:
        """Where this start's caches lie."""
        return (self.cache or self.work / START / CACHE).resolve()

    def image(self) -> ImageConfig | None:
        """The image that the plan names. Raises ConfigError for one without digest, and for a container's plan on a
        machine that runs processes."""
        if self.plan.image is None:
            return None
        repository, at, digest = self.plan.image.partition("@")
        if not at or not digest.startswith("sha256:"):
            raise ConfigError("image of the engine", self.plan.image, "REPOSITORY@sha256:...", "`slipway pin`")
        if not self.machine.in_container:
            raise ConfigError(
                f"engine in image {repository}",
                f"target {self.machine.name} runs no containers",
                "a target with docker, or Slurm with containers",
                "choose it with layers.serving=targets/...",
            )
        return ImageConfig(repository=repository, tag="", digests={self.machine.arch: digest})

    def digest(self) -> str:
        """What decides whether a server that runs is this one."""
        runner = self.machine.runner.model_dump(mode="json")
        document = [self.plan.model_dump(mode="json"), str(self.bundle.resolve()), str(self.model), runner]
        return sha256_bytes(canonical(document))

    def rendering(self, port: int) -> Rendering:
        """What its start looks like on a port."""
        bundle, model = self.bundle.resolve(), (self.model or model_of(self.bundle)).resolve()
        host = LOOPBACK if self.is_local else ANY
        folder, cache = self.work.resolve() / START, self.cache_folder
        return Rendering(self.plan, bundle, model, folder, host, port, self.machine.in_container, cache)

    def job(self, name: str, port: int) -> Job:
        """The job that serves."""
        start = self.rendering(port).render()
        return Job(
            name,
            start.argv,
            self.work.resolve(),
            env=start.environment,
            mounts=start.mounts,
            labels={"slipway.stage": "serve", "slipway.run": self.work.resolve().parent.name},
            processes=max(1, self.machine.gpus),
            stop_s=self.plan.stop_s,
            ports=(port,),
            attached=True,
        )


def service_of(bundle: Path, machine: TargetConfig, work: Path) -> Service:
    """A bundle by its own `serve.json`. Raises EngineError for a bundle that is incomplete or for another CPU."""
    return Service(bundle, read_plan(bundle), machine, work)


def serve(service: Service, look: Look = lambda: None) -> Endpoint:
    """Start or adopt the server and wait until it is healthy; `look` is called while it loads and may raise.

    Raises ConfigError for a machine that cannot run the plan, ResourceError for one that cannot be reached or a port
    that is taken, EngineError with the end of the log when the server ends or is not healthy within `plan.start_s`
    seconds of its start. Then nothing is left running. On this machine the load guard of its row watches meanwhile:
    ResourceError when it had to stop the server. A free port that another process takes first is left to it.
    """
    for _ in range(ports.PORT_TRIES - 1 if service.port is None else 0):
        with suppress(PortTakenError):
            return _serve(service, look)
    return _serve(service, look)


def _serve(service: Service, look: Look) -> Endpoint:
    service.work.mkdir(parents=True, exist_ok=True)
    runner = runner_for(service.machine, service.image())
    job, adopted = _adopted(service, runner) or (_new_job(service), False)
    log_from = job.log.stat().st_size if job.log.exists() and not adopted else 0
    submitted = False
    tunnel = None
    guard = _guard(service, runner, job)
    try:
        _submit(service, runner, job, adopted)
        submitted = True
        with guard or nullcontext():
            address = _await_address(service, runner, job, log_from, look)
            tunnel = open_tunnel(address.through, address.port) if address.through else None
            endpoint = _endpoint(service, runner, job, address, tunnel, log_from, adopted)
            _await_health(endpoint, service, look)
    except BaseException as err:
        if tunnel:
            tunnel.close()
        if submitted or not isinstance(err, Exception):  # a signal may have come when it had just been started
            _end(runner, replace(job, stop_s=0.0))
        remove(service.work / RECORD)
        if guard and isinstance(err, Exception):
            guard.check()  # it died because the guard stopped it
        raise
    return endpoint


@contextmanager
def serving(service: Service, look: Look = lambda: None) -> Iterator[Endpoint]:
    """A server for the time of the block; SIGTERM to this process stops it first."""
    main = threading.current_thread() is threading.main_thread()
    handled = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with stopped_by_sigterm() if handled else nullcontext():
        endpoint = serve(service, look)
        try:
            yield endpoint
        finally:
            stop(endpoint)


def stop(endpoint: Endpoint) -> None:
    """End the server and forget it. Raises ResourceError when its machine cannot be reached: it lives on and is adopted
    by the next start."""
    endpoint.stop()
    remove(endpoint.job.work / RECORD)


def _guard(service: Service, runner: Runner, job: Job) -> LoadGuard | None:
    """What watches the memory while it loads, where the machine's row asks for it and the machine is this one."""
    if service.machine.guard is None or not is_here(service.machine):
        return None
    planned = sum(service.plan.memory.values()) or None
    return LoadGuard(job.name, service.machine.guard, lambda: runner.cancel(replace(job, stop_s=0.0)), planned=planned)


def _adopted(service: Service, runner: Runner) -> tuple[Job, bool] | None:
    """The job that runs in this folder already, when it is the same; another one is ended."""
    record = read_job_file(service.work / RECORD)
    if not {"name", "port", "service"} <= record.keys():
        return None
    job = service.job(str(record["name"]), int(record["port"]))
    wanted = service.port in (None, record["port"]) or not service.is_local
    if runner.poll(job) is None:
        if record["service"] == service.digest() and wanted:
            return job, True
        cancel_patiently(runner, job)
    runner.forget(job)
    remove(service.work / RECORD)
    return None


def _new_job(service: Service) -> Job:
    if service.is_local:
        port = service.port or ports.any_port(LOOPBACK)
        ports.require_free(LOOPBACK, port)
    else:
        port = service.port or random.choice(CONTAINER_PORTS)  # noqa: S311 (no secret)
    return service.job(f"serve-{secrets.token_hex(6)}", port)


def _submit(service: Service, runner: Runner, job: Job, adopted: bool) -> None:
    """The record comes first: whoever is killed in between leaves a name to be adopted by."""
    if not adopted:
        service.rendering(job.ports[0]).write(service.fill_cache)
        record = {"name": job.name, "port": job.ports[0], "service": service.digest()}
        write_atomic(service.work / RECORD, json.dumps(record))
    try:
        runner.submit(job)
    except OSError as err:
        raise EngineError(
            f"program {job.argv[0]}", err.strerror, "an executable for this machine", "`slipway run` makes it again"
        ) from err


def _await_address(service: Service, runner: Runner, job: Job, log_from: int, look: Look) -> Address:
    """Where it is reached, once it runs: a queue may be long, so this has no time limit."""
    while (address := runner.address(job, job.ports[0])) is None:
        if (outcome := runner.poll(job)) is not None:
            raise _died(service, job, outcome.reason, log_from)
        look()
        time.sleep(HEALTH_EVERY_S[service.machine.runner.kind])
    return address


def _endpoint(
    service: Service, runner: Runner, job: Job, address: Address, tunnel: Tunnel | None, log_from: int, adopted: bool
) -> Endpoint:
    host, port = (LOOPBACK, tunnel.port) if tunnel else (address.host, address.port)
    return Endpoint(service.plan, runner, job, host, port, tunnel, log_from, adopted)


def _await_health(endpoint: Endpoint, service: Service, look: Look) -> None:
    deadline = time.monotonic() + service.plan.start_s
    url = f"{endpoint.base}{service.plan.health}"
    while not http.is_healthy(url, 2, direct=True):
        if (outcome := endpoint.ended()) is not None:
            raise _died(service, endpoint.job, outcome.reason, endpoint.log_from)
        endpoint.check_alive()
        if time.monotonic() > deadline:
            expected = f"healthy within {service.plan.start_s:.0f} s"
            raise failed(endpoint.job, "not healthy yet", expected, endpoint.log_from)
        look()
        time.sleep(HEALTH_EVERY_S[service.machine.runner.kind])
    endpoint.check_alive()  # what answered may be a stranger on the port, and ours have died of it


def _died(service: Service, job: Job, reason: str, log_from: int) -> EngineError:
    if service.is_local:
        ports.require_free(LOOPBACK, job.ports[0])  # someone else took it between our look and its bind
    return failed(job, f"died ({reason})", f"a server that answers {service.plan.health}", log_from)


def _end(runner: Runner, job: Job) -> None:
    cancel_patiently(runner, job)
    runner.forget(job)
