"""Jobs as containers of a docker engine, on this machine or another.

The container's name is the job's, so two orchestrators that submit the same job make one container, and an orchestrator
that comes back finds it: running, it is adopted; ended, its outcome is still there to be read; `forget` removes it. The
engine may be away for `PATIENCE_S` while a job runs (a restart, a cut ssh link): `poll` says "still running" meanwhile
and tries again, then raises ResourceError and leaves the container alone, to be adopted.
"""

from __future__ import annotations

import json
import time
from typing import Any

from docker.errors import APIError, NotFound

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers.docker_client import DockerClient, UnreachableError, client_at
from slipway.containers.logs import ContainerLog
from slipway.containers.pull import have_image
from slipway.errors import ConfigError, ResourceError
from slipway.runners import docker_container
from slipway.runners.base import Address, Job, Outcome, State, read_job_file
from slipway.system.files import write_atomic

PATIENCE_S = 120.0  # a running job's engine may be away this long
ANSWER_S = 10.0  # an engine asked to start something may be away this long
JOB_FILE = "docker.json"
RACES = 20


class DockerRunner:
    """Containers of the pinned image. Raises ConfigError for an image that is not pinned or of another architecture."""

    def __init__(
        self, params: DockerConfig, target: TargetConfig, image: ImageConfig, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._params, self._target, self._image, self._patience_s = params, target, image, patience_s
        self._engine: DockerClient = client_at(params.host)
        self._logs: dict[str, ContainerLog] = {}
        self._ended: dict[str, Outcome] = {}
        self._away: dict[str, float] = {}  # job name -> when its engine went away
        self._next_try = 0.0

    def submit(self, job: Job) -> bool:
        """An ended container of this name whose outcome was not read yet counts as adopted; `poll` returns it."""
        if self._ended.pop(job.name, None):
            self.forget(job)
        for _ in range(RACES):
            if existing := self._find(job):
                if existing.status == "created":  # by an orchestrator that is about to start it, or died before
                    self._start(job, existing.id)
                return True
            info = self._engine.ask_until_answered(lambda c: c.api.info(), ANSWER_S)
            reference = have_image(self._engine, info, self._image, self._target.arch, job.log)
            spec = docker_container.specification(job, reference, self._params, self._target, self._engine, info)
            if created := self._create(job, spec):
                self._start(job, created)
                return False
            time.sleep(0.1)  # the name was taken meanwhile: by the same job elsewhere, or one being removed
        raise ResourceError(
            f"container {job.name}",
            "its name is taken, yet no such container is found",
            "a free name",
            "`docker ps -a`, then again",
        )

    def poll(self, job: Job) -> Outcome | None:
        """None while it runs, and while its engine is away. Raises ResourceError when that lasts longer than the
        patience.
        """
        if job.name in self._ended:
            return self._ended[job.name]
        if time.monotonic() < self._next_try and job.name in self._away:
            return None
        try:
            ended = self._look(job)
        except UnreachableError as err:
            self._wait_for_engine(job, err)
            return None
        self._away.pop(job.name, None)
        if ended:
            self._ended[job.name] = ended
        return ended

    def cancel(self, job: Job) -> Outcome:
        """SIGTERM to the container's first process, which passes it on; SIGKILL to all of it. Told before looking, so
        that what keeps `poll` from reading the log does not keep the job alive. Raises ResourceError when the engine is
        away for longer than PATIENCE_S: the container lives on.
        """
        if (ended := self._ended.get(job.name)) is not None:
            return ended
        running = self._signal(job, "SIGTERM")
        deadline = time.monotonic() + job.stop_s
        while (ended := self.poll(job)) is None and (time.monotonic() < deadline or job.name in self._away):
            time.sleep(0.1)
        if ended is None:
            self._signal(job, "SIGKILL")
        while (ended := self.poll(job)) is None:
            time.sleep(0.1)
        if running:
            self._ended[job.name] = ended = Outcome(State.CANCELLED, ended.code, "cancelled", ended.seconds)
        return ended

    def forget(self, job: Job) -> None:
        """Remove the container, running or not, and the job's file."""
        if log := self._logs.pop(job.name, None):
            log.stop()
        self._ended.pop(job.name, None)

        def remove(client: Any) -> None:
            try:
                client.api.remove_container(job.name, force=True)
            except APIError as err:
                if not (err.status_code == 404 or docker_container.being_removed(err)):
                    raise

        if self._find(job):
            self._engine.ask_until_answered(remove, ANSWER_S)
        (job.work / JOB_FILE).unlink(missing_ok=True)

    def address(self, job: Job, port: int) -> Address | None:
        """As the engine published it. Raises ConfigError for an engine whose loopback cannot be reached."""
        try:
            described = self._engine.ask(lambda c: c.api.inspect_container(job.name))
        except (NotFound, UnreachableError):
            return None
        return docker_container.address(described, port, self._engine.host)

    def _find(self, job: Job) -> Any:
        def get(client: Any) -> Any:
            try:
                return client.containers.get(job.name)
            except NotFound:
                return None

        container = self._engine.ask_until_answered(get, ANSWER_S)
        if container and container.labels.get(docker_container.JOB) != job.name:
            raise ConfigError(
                f"container {job.name}",
                "not Slipway's",
                "a free name",
                f"`docker rm {job.name}` or rename it, then again",
            )
        return container

    def _create(self, job: Job, spec: docker_container.Specification) -> str | None:
        """The container's id; None when its name is taken."""
        try:
            created = self._engine.ask_until_answered(lambda c: docker_container.create(c, spec), ANSWER_S)
        except APIError as err:
            if docker_container.name_taken(err):
                return None
            raise docker_container.refusal(err, job, self._engine) from err
        self._note(job, created)
        return created

    def _note(self, job: Job, container: str) -> int:
        """Where this container's output begins in the log: recorded before the first byte is copied."""
        file = job.work / JOB_FILE
        known = read_job_file(file)
        if known.get("container") != container:
            known = {"container": container, "log_from": job.log.stat().st_size if job.log.exists() else 0}
            write_atomic(file, json.dumps(known))
        return int(known["log_from"])

    def _start(self, job: Job, container: str) -> None:
        try:
            self._engine.ask_until_answered(lambda c: c.api.start(container), ANSWER_S)
        except NotFound:
            return  # removed in between: `poll` says LOST
        except APIError as err:
            self._engine.ask_until_answered(lambda c: docker_container.remove_unstarted(c, container), ANSWER_S)
            raise docker_container.refusal(err, job, self._engine) from err

    def _look(self, job: Job) -> Outcome | None:
        try:
            described = self._engine.ask(lambda c: c.api.inspect_container(job.name))
        except NotFound:
            return Outcome(State.LOST, None, f"container {job.name} was removed on {self._engine.host}")
        if job.name not in self._logs:
            self._logs[job.name] = ContainerLog(
                self._engine, described["Id"], job.log, self._note(job, described["Id"])
            )
        if not docker_container.has_ended(described["State"]):
            self._logs[job.name].keep_up()
            return None
        self._logs[job.name].finish()
        return docker_container.outcome(described["State"])

    def _wait_for_engine(self, job: Job, err: UnreachableError) -> None:
        if log := self._logs.get(job.name):
            log.stop()
        now = time.monotonic()
        since = self._away.setdefault(job.name, now)
        if now - since > self._patience_s:
            del self._away[job.name]
            raise self._engine.unreachable_for(err, now - since) from err
        self._next_try = now + min(5.0, max(0.5, (now - since) / 2))

    def _signal(self, job: Job, name: str) -> bool:
        """Whether there was something running to be signalled."""

        def kill(client: Any) -> bool:
            try:
                client.api.kill(job.name, name)
            except APIError as err:
                if err.status_code not in (404, 409) and not docker_container.not_running(err):
                    raise
                return False
            return True

        return self._engine.ask_until_answered(kill, self._patience_s)
