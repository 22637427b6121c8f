"""The engines of a target whose releases are service jobs of Slurm: the same protocol as processes and containers.

The agent stands on a login or service host; the root, the bundles and the models lie on a filesystem that the nodes
share under the same paths. `endpoint.json` names job and restart, which together are the fencing token: it is read for
where requests go, and the controller for whether that attempt still is the one that counts.

    {"url": ..., "host": ..., "port": ..., ..., "job": 4711, "restart": 1, "key_file": ...}

An engine listens on its node's address, so it has a key of its own (`slurm/node.py` makes it, a new one each attempt):
the proxy, the mirror and the checks send it, clients never see it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent import health
from slipway.agent.engine_container import INSIDE
from slipway.agent.engine_process import model_of, write_start_files
from slipway.agent.engines import ENDPOINT, LOG, Endpoint, Engines
from slipway.agent.files import remove
from slipway.agent.haproxy.settings import private_file
from slipway.agent.paths import TargetPaths
from slipway.agent.records import read_text
from slipway.agent.slurm.engine import EngineTls, Registration, SlurmService, SlurmSettings, slurm_settings
from slipway.agent.slurm.follow import Follower, Hands
from slipway.agent.start_plan import CACHE, CONFIG, StartPlan, fill, read_start
from slipway.errors import ConfigError, EngineError, ResourceError, StateError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note
    from slipway.agent.settings import Settings

POLL_S = 0.5
AT_THE_NODE = {name: f"{{{name}}}" for name in ("host", "port", "threads", "cache")}  # filled in there
_ANSWERED: dict[Path, dict[str, float]] = {}  # root -> token -> when it last answered: one process watches a target


class SlurmEngines(Engines):
    """The service jobs of one target's releases."""

    def __init__(self, paths: TargetPaths, settings: SlurmSettings) -> None:
        super().__init__(paths)
        self._slurm, self._service = settings, SlurmService(paths.root, settings)

    def start(self, name: str, settings: Settings) -> Endpoint:
        """Submit a job beside whatever serves, and wait for a node and for its engine's health. On error no job of it
        is left.

        Raises StateError without a start plan, ConfigError for an engine that knows no key or no TLS where that is
        asked for, and for a private key that others may read, ResourceError when Slurm
        refuses it, does not answer or gives no node in `queue_s`, EngineError when the engine ends or is not healthy in
        its time.
        """
        release = self._paths.release(name)
        plan = read_start(release)
        self._require_safe(name, plan)
        self._service.cancel(release)

        def launch() -> Endpoint:
            return self._endpoint(release, plan, self._await_node(release, self.submit(name)))

        return self._recorded_start(name, plan, settings, launch)

    def submit(self, name: str) -> int:
        """Submit another job of a release; its id. Raises as `SlurmService.submit`."""
        release = self._paths.release(name)
        return self._service.submit(
            release, job_document(read_start(release), release, container=self._slurm.container, tls=self._slurm.tls)
        )

    def endpoint(self, name: str) -> Endpoint | None:
        """The attempt that serves this release; None when it does not count any more. Raises StateError when its record
        cannot be read, SilentError."""
        recorded = self._recorded(name)
        return recorded if recorded and self.runs(recorded) else None

    def runs(self, endpoint: Endpoint) -> bool:
        """Whether this very attempt is the one that the controller counts. Raises SilentError."""
        state = self._service.state(endpoint.job) if endpoint.job else None
        return state is not None and state.runs and state.restarts == endpoint.restart

    def stop(self, name: str, grace_s: float) -> list[dict[str, Any]]:  # noqa: ARG002 (of the protocol)
        """Cancel every job of this release and forget its endpoint; as `Engines.stop`. Slurm's own grace (KillWait)
        counts, not `grace_s`. Raises SilentError."""
        release = self._paths.release(name)
        try:
            recorded = self._recorded(name)
        except StateError:
            recorded = None
        rows = []
        for job in self._service.cancel(release):
            url = recorded.url if recorded and recorded.job == job else ""
            rows.append({"release": name, "pid": 0, "job": job, "url": url})
        remove(release / ENDPOINT)
        return rows

    def running(self) -> list[str]:
        """Names of the releases that have a job. Raises SilentError."""
        return sorted(self._service.releases_that_run())

    def pointed(self, name: str) -> Registration | None:
        """The attempt that `endpoint.json` names, whether it still counts or not; null where a person stopped it."""
        recorded = self._recorded(name)
        if recorded is None or not recorded.job:
            return None
        where = (recorded.host, recorded.port, recorded.key_file, recorded.ca_file)
        return Registration(recorded.job, recorded.restart, *where)

    def record(self, name: str, registration: Registration) -> Endpoint:
        """Write down that requests of this release go to this attempt; its endpoint."""
        release = self._paths.release(name)
        endpoint = self._endpoint(release, read_start(release), registration)
        self._write(name, endpoint.to_json())
        return endpoint

    def follower(self, hands: Hands) -> Follower:
        """What follows the jobs of this target's serving release."""
        return Follower(self._service, self._slurm, hands, _ANSWERED.setdefault(self._paths.root, {}))

    def _endpoint(self, release: Path, plan: StartPlan, registration: Registration) -> Endpoint:
        where = (registration.host, registration.port, plan.alias, str(release / LOG), plan.health)
        return replace(
            Endpoint(*where),
            job=registration.job,
            restart=registration.restart,
            key_file=registration.key_file,
            ca_file=registration.ca_file,
        )

    def _require_safe(self, name: str, plan: StartPlan) -> None:
        """ConfigError for an engine that anybody on the cluster's network could ask, unless a person allowed it, and
        for one that does not speak TLS where it must."""
        if self._slurm.tls:
            for file, what in ((self._slurm.tls.certificate, "certificate"), (self._slurm.tls.ca, "ca")):
                read_text(Path(file), f"deploy.slurm.tls.{what}", "give a file that login host and nodes share")
            private_file(Path(self._slurm.tls.key), "deploy.slurm.tls.key")
            if not plan.tls_options:
                step = "leave deploy.slurm.tls out, or choose engine.kind=vllm"
                raise ConfigError(f"engine {name}", "its server speaks no TLS", "one that does: deploy.slurm.tls", step)
        if plan.key_variables or self._slurm.keyless:
            return
        expected = "one that checks a key: llama-server, vLLM"
        next_step = "choose another engine.kind, or, where the cluster's network is closed, deploy.slurm.keyless=true"
        raise ConfigError(f"engine {name}", "its server knows no key of callers", expected, next_step)

    def _await_node(self, release: Path, job: int) -> Registration:
        deadline = time.monotonic() + self._slurm.queue_s
        while (registration := self._service.registration(release, job)) is None:
            state = self._service.state(job)
            if state is None or state.ended:
                how = f"job {job} ended: {state.state if state else 'forgotten'}. Last log lines:\n"
                tail = health.log_tail(release / LOG)
                raise EngineError(f"engine {release.name}", how + tail, "a job that serves", f"read {release / LOG}")
            if time.monotonic() > deadline:
                value = f"job {job} waits: {state.state}, {state.reason or 'no reason'}"
                next_step = "raise deploy.slurm.queue_s, or free a node; `squeue` shows who waits"
                expected = f"a node within {self._slurm.queue_s:.0f} s"
                raise ResourceError(f"engine {release.name}", value, expected, next_step)
            time.sleep(POLL_S)
        return registration


def job_document(plan: StartPlan, release: Path, *, container: bool, tls: EngineTls | None = None) -> dict[str, Any]:
    """What `SlurmService.submit` takes, from a release's start plan: places that only the node knows are left in.
    `container`: whether an image is run through Pyxis; else what the nodes have installed runs. `tls`: of the engine,
    where it speaks TLS."""
    bundle, folder = release / "engine", release / "start"
    model = model_of(plan, bundle)
    inside = container and bool(plan.image)
    outer = {"bundle": str(bundle), "model": str(model), CONFIG: str(folder / CONFIG)}
    paths = {name: f"{INSIDE}/{name}" for name in outer} if inside else outer
    values = {**AT_THE_NODE, "bundle": paths["bundle"], "model": paths["model"]}
    if inside:
        values[CACHE] = f"{INSIDE}/{CACHE}"
    write_start_files(plan, folder, values, paths[CONFIG])
    variables = {variable: f"{{cache}}/{path}" for path, variable in plan.caches} | dict(plan.environment)
    mounts = [f"{source}:{INSIDE}/{name}:ro" for name, source in outer.items()] + [f"{{cache}}:{INSIDE}/{CACHE}"]
    options = list[str]()
    if tls and plan.tls_options:
        files = {"certificate.pem": tls.certificate, "key.pem": tls.key}
        places = [f"{INSIDE}/{name}" for name in files] if inside else list(files.values())
        options = [word for pair in zip(plan.tls_options, places, strict=True) for word in pair]
        mounts += [f"{source}:{INSIDE}/{name}:ro" for name, source in files.items()]
    return {
        "argv": [*(fill(word, values, plan.files, paths[CONFIG]) for word in plan.argv), *options],
        "ca": tls.ca if tls and options else "",
        "environment": {name: fill(text, values, plan.files, paths[CONFIG]) for name, text in variables.items()},
        "stop_s": plan.stop_s,
        "key_variables": list(plan.key_variables),
        **({"image": plan.image, "mounts": mounts} if inside else {}),
        **({"caches": {"bundle": str(bundle), "start": str(folder), "in_image": inside}} if plan.caches else {}),
    }


def follow(agent: Agent, document: Document, note: Note) -> Document:
    """Keep clients on the serving release's job, wherever it runs -> `{"did": what, "why": sentence}`: requeues are
    followed, a successor is started before the time limit, requests wait while nobody answers. Nothing for a release
    that a person stopped, and for a target whose engines are not Slurm's.

    Raises ResourceError while another command changes the target.
    """
    from slipway.agent.changes import changing  # the transaction knows the engines

    with changing(agent, {"wait_s": 0.0, **document}, "follow") as parts:
        name, engines = parts.releases.current(), parts.engines
        pointed = engines.pointed(name) if isinstance(engines, SlurmEngines) and name else None
        if not isinstance(engines, SlurmEngines) or name is None or pointed is None:
            return {"did": "wait", "why": "no job serves here"}
        path, old = read_start(parts.paths.release(name)).health, engines.endpoint(name)

        def point(to: Registration) -> None:
            endpoint = engines.record(name, to)
            parts.switcher.configure(endpoint)
            parts.switcher.switch(old, endpoint)
            parts.switcher.drain(old)

        hands = Hands(
            answers=lambda one: health.answers(one.host, one.port, path, key_file=one.key_file, ca_file=one.ca_file),
            point=point,
            submit=lambda: engines.submit(name),
            hold=lambda: parts.switcher.hold(None),
        )
        decision = engines.follower(hands).step(parts.paths.release(name), pointed)
        if decision.what != "wait":
            note(f"{decision.what}: {decision.why}")
        return {"did": decision.what, "why": decision.why}


def engines_for(paths: TargetPaths, settings: Settings) -> Engines:
    """The engines of a target: of this machine, or Slurm's. Raises ConfigError for settings that do not fit."""
    slurm = slurm_settings(settings.slurm)
    return Engines(paths) if slurm is None else SlurmEngines(paths, slurm)
