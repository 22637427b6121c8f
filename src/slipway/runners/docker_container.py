"""What Slipway's containers are: how one is described to an engine, what its end means, what an engine's refusal means.

Podman's Docker API answers 500 where Docker's own answers 400 or 409; both are told by their words.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any
from urllib.parse import urlsplit

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers.docker_client import DockerClient, client_at
from slipway.errors import ConfigError, ResourceError, SlipwayError
from slipway.runners.base import OFFLINE, Address, Job, Outcome, State
from slipway.system.http import is_loopback

JOB, RUN, STAGE = "slipway.job", "slipway.run", "slipway.stage"
STACK = 64 << 20
ANSWER_S = 10.0


Specification = tuple[dict[str, Any], dict[str, Any]]


def specification(
    job: Job, reference: str, params: DockerConfig, target: TargetConfig, engine: DockerClient, info: dict[str, Any]
) -> Specification:
    """Arguments of docker's `create_container`, and of its host config. Raises ConfigError for a mount whose source is
    not there.

    The working directory is none of the mounts, and never a source tree: a folder called `mlflow` would look like the
    package. Output is kept whole, whatever the engine's default logging is. `info`: what the engine says of itself.
    """
    user, named = _owner(info)
    gpus = [DeviceRequest(count=target.gpus, capabilities=[["gpu"]])] if params.gpus and target.gpus else []
    host = {
        "mounts": _mounts(job, engine),
        "device_requests": gpus,
        "ipc_mode": "host",
        "init": True,
        "ulimits": [Ulimit(name="memlock", soft=-1, hard=-1), Ulimit(name="stack", soft=STACK, hard=STACK)],
        "log_config": LogConfig(type="json-file", config={"max-size": "1024g"}),
        # a port of the engine's own choice, on its machine's loopback: who may connect there may ask
        **({"port_bindings": dict.fromkeys(job.ports, ("127.0.0.1",))} if job.ports else {}),
    }
    config = {
        "image": reference,
        **({"entrypoint": [job.argv[0]]} if job.whole else {}),
        "command": list(job.argv[1:] if job.whole else job.argv),
        "name": job.name,
        "labels": {**job.labels, JOB: job.name},
        "environment": {**OFFLINE, **named, **job.env},
        "working_dir": "/tmp",  # noqa: S108 (inside)
        "stop_signal": "SIGTERM",
        "stop_timeout": ceil(job.stop_s),
        **({"ports": list(job.ports)} if job.ports else {}),
        **user,
    }
    return config, host


def create(client: Any, specification: Specification) -> str:
    """The new container's id."""
    config, host = specification
    return str(client.api.create_container(**config, host_config=client.api.create_host_config(**host))["Id"])


def _owner(info: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The submitter's own user, so that checkpoints can be read and removed without root; a rootless engine maps root
    to it.

    torch asks for a user name and a home, and a bare user id has neither.
    """
    uid = os.getuid()
    if uid == 0 or any("rootless" in option for option in info.get("SecurityOptions") or ()):
        return {}, {}
    return {"user": f"{uid}:{os.getgid()}"}, {"HOME": "/tmp", "USER": "slipway"}  # noqa: S108 (inside the container)


def _mounts(job: Job, engine: DockerClient) -> list[Mount]:
    for mount in job.mounts:
        if not engine.remote and not mount.source.exists():
            raise ConfigError(
                f"mount {mount.target} of {job.name}",
                mount.source,
                "an existing path",
                "make the artifact again, or mend the path",
            )
    return [
        Mount(target=m.target, source=str(m.source.resolve()), type="bind", read_only=m.read_only) for m in job.mounts
    ]


def address(described: dict[str, Any], port: int, host: str) -> Address | None:
    """Where a port of a container is reached; `described`: docker's `inspect`, `host`: the engine's address. None while
    it does not run.

    Raises ConfigError for an engine reached by plain TCP on another machine, whose loopback nobody here reaches.
    """
    if described["State"]["Status"] != "running":
        return None
    bindings = (described.get("NetworkSettings", {}).get("Ports") or {}).get(f"{port}/tcp") or []
    if bindings:
        port = int(bindings[0]["HostPort"])
    elif described["HostConfig"].get("NetworkMode") != "host":
        return None
    if host.startswith("ssh://"):
        return Address("127.0.0.1", port, through=host)
    name = urlsplit(host).hostname or ""
    if not host.startswith(("unix://", "http+unix://")) and not is_loopback(name):
        raise ConfigError(
            f"server on {host}", "its port is on that machine's loopback", "ssh://user@host", "set the target's host so"
        )
    return Address("127.0.0.1", port)


def has_ended(state: dict[str, Any]) -> bool:
    """Whether docker's `State` is that of a container that ran and does not any more."""
    return state["Status"] in ("exited", "dead", "stopped")


def outcome(state: dict[str, Any]) -> Outcome:
    """Of docker's `State`: exit codes above 128 are signals, as a shell counts them. An OOM kill is only known where
    the engine says so; podman does not.
    """
    code = int(state["ExitCode"])
    code = 128 - code if 128 < code <= 192 else code
    seconds = max(0.0, _time(state["FinishedAt"]) - _time(state["StartedAt"]))
    if state.get("OOMKilled"):
        return Outcome(State.OUT_OF_MEMORY, code, "the container exceeded its memory or the machine's", seconds)
    if code == -9:
        return Outcome(State.FAILED, code, "killed (137), perhaps for memory", seconds)
    reason = f"signal {-code}" if code < 0 else f"exit code {code}"
    error = f": {state['Error']}" if state.get("Error") else ""
    return Outcome(State.DONE if code == 0 else State.FAILED, code, reason + error, seconds)


def _time(text: str) -> float:
    """Seconds since 1970 of RFC 3339 with up to nine digits of a second."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def name_taken(err: APIError) -> bool:
    """Whether the engine refused a new container because another has its name."""
    return err.status_code == 409 or "already in use" in str(err.explanation)


def being_removed(err: APIError) -> bool:
    """Whether the engine refused to remove a container because somebody else removes it now."""
    return err.status_code == 409 or "already in progress" in str(err.explanation)


def not_running(err: APIError) -> bool:
    """Whether the engine refused a signal because the container does not run."""
    return bool(re.search(r"not running|can only kill running|state improper", str(err.explanation)))


def remove_unstarted(client: Any, container: str) -> None:
    """Remove a container that was created and could not start; nothing when it is gone."""
    try:
        client.api.remove_container(container, force=True)
    except NotFound:
        return


def refusal(err: APIError, job: Job, engine: DockerClient) -> SlipwayError:
    """What an engine that would not make or start the container meant."""
    message = str(err.explanation).strip()
    where = f"container {job.name} on {engine.host}"
    if "could not select device driver" in message or "nvidia" in message.lower():
        return ResourceError(
            where,
            message,
            "a GPU",
            "install nvidia-container-toolkit there, `nvidia-ctk runtime configure`, restart docker",
        )
    for mount in job.mounts:
        if str(mount.source) in message and re.search(r"does not exist|no such file", message):
            return ConfigError(
                f"mount {mount.target} of {job.name}",
                f"{mount.source} is not on {engine.host}",
                "a path that both machines have",
                "share the folder between them, or run slipway on that machine",
            )
    if "no space left" in message:
        return ResourceError(where, message, "free disk space there", "`docker system df`, free some, then again")
    return ResourceError(where, message, "a container that starts", "read the engine's answer; `docker info` there")


@dataclass(frozen=True)
class ListedContainer:
    """A container of Slipway's: running, or ended and not read yet. `age_s`: seconds since it was made."""

    name: str
    state: str
    run: str
    stage: str
    host: str
    age_s: float

    def to_json(self) -> dict[str, Any]:
        """As a plain document."""
        return asdict(self)


def list_jobs(host: str | None = None) -> list[ListedContainer]:
    """Slipway's containers on an engine, oldest first. Raises ResourceError when it does not answer."""
    engine = client_at(host)
    containers = engine.ask_until_answered(lambda c: c.api.containers(all=True, filters={"label": [JOB]}), ANSWER_S)
    now = datetime.now(UTC).timestamp()
    listed = [
        ListedContainer(
            c["Labels"][JOB],
            c["State"],
            c["Labels"].get(RUN, ""),
            c["Labels"].get(STAGE, ""),
            engine.host,
            round(now - c["Created"], 1),
        )
        for c in containers
    ]
    return sorted(listed, key=lambda x: -x.age_s)
