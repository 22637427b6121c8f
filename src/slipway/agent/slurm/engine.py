"""Engines that are service jobs of Slurm: submitted from a login node, requeued by Slurm, known by name and token.

The target's root lies on a filesystem that the nodes share. A job registers where it answers (`slurm_node.py`); its
address counts only while the controller says that this attempt, job and restart, is the one that runs. So an engine
that outlived its node's daemon is never pointed at, however healthy it is.

    RELEASE/slurm/job.json, job.sbatch, slurm_node.py       written at each submission
    RELEASE/slurm/modules.zip                               with them: what of slipway the node needs for its caches
    RELEASE/slurm/registered/, keys/, over/                 see slurm_node.py
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from slipway.agent.files import disk_full_is_named, write_atomic
from slipway.agent.paths import NAME
from slipway.agent.records import Fields, is_present, read_json
from slipway.agent.slurm import commands as slurm_commands
from slipway.agent.slurm.commands import ServiceJob
from slipway.agent.slurm.node import JOB, KEYS, OVER, REGISTERED
from slipway.agent.warm_caches import MODULES as NEEDED
from slipway.errors import ConfigError

FOLDER, PROGRAM, SCRIPT, MODULES = "slurm", "slurm_node.py", "job.sbatch", "modules.zip"
PORTS = (20000, 31999)  # below the kernel's ephemeral range
LAST_WARNING_S = 60  # before the time limit, when no successor took over: the job requeues itself
_MEND = "correct deploy.slurm"


@dataclass(frozen=True)
class EngineTls:
    """Paths of PEM files that login host and nodes share: an engine's certificate chain and its private key, and what
    signed them."""

    certificate: str
    key: str
    ca: str


@dataclass(frozen=True)
class SlurmSettings:
    """How service jobs are submitted. `time_limit`: of one job, `[D-]HH:MM:SS`; `successor_s`: seconds before it at
    which another job of the same release is started; `queue_s`: longest wait for a node; `container`: Pyxis, where the
    plan names an image; `gpus`: of one job; `unhealthy_s`: seconds without an answer after which a job is requeued;
    `keyless`: an engine that knows no key may listen without one; `tls`: of the engines, null for plain HTTP; `extra`:
    more sbatch options."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time_limit: str = "7-00:00:00"
    successor_s: float = 3600.0
    queue_s: float = 3600.0
    unhealthy_s: float = 180.0
    container: bool = True
    gpus: int = 0
    ports: tuple[int, int] = PORTS
    keyless: bool = False
    tls: EngineTls | None = None
    extra: tuple[str, ...] = ()


def slurm_settings(document: Mapping[str, Any]) -> SlurmSettings | None:
    """Section `deploy.slurm` as a document; null for an empty one: engines are not Slurm's. Raises StateError for a
    value of another type, ConfigError for an unknown key or a time limit that leaves no time for a successor."""
    if not document:
        return None
    if unknown := sorted(set(document) - set(SlurmSettings.__dataclass_fields__)):
        raise ConfigError("deploy.slurm", f"key {unknown[0]}", ", ".join(SlurmSettings.__dataclass_fields__), _MEND)
    fields = Fields(document, "deploy.slurm", _MEND)
    settings = SlurmSettings(
        partition=fields.text("partition", ""),
        account=fields.text("account", ""),
        qos=fields.text("qos", ""),
        time_limit=fields.text("time_limit", SlurmSettings.time_limit, pattern=r"(\d+-)?\d{1,3}:\d\d:\d\d"),
        successor_s=fields.number("successor_s", SlurmSettings.successor_s),
        queue_s=fields.number("queue_s", SlurmSettings.queue_s),
        unhealthy_s=fields.number("unhealthy_s", SlurmSettings.unhealthy_s),
        container=fields.flag("container", True),
        gpus=fields.integer("gpus", 0),
        ports=_ports(document.get("ports", PORTS)),
        keyless=fields.flag("keyless", False),
        tls=_tls(fields.document("tls", {})),
        extra=fields.texts("extra", ()),
    )
    limit_s = slurm_commands.seconds(settings.time_limit) or 0.0
    if settings.successor_s + LAST_WARNING_S >= limit_s:
        value = f"{settings.successor_s:g} of a time limit of {limit_s:g} s"
        raise ConfigError("deploy.slurm.successor_s", value, f"{LAST_WARNING_S} s less than the limit", _MEND)
    return settings


@dataclass(frozen=True)
class Registration:
    """Where one attempt of a job answers, the file of the key that it asks for, and of what signed its certificate,
    empty for none. The token orders attempts of one job: job id, then restart count."""

    job: int
    restart: int
    host: str
    port: int
    key_file: str = field(default="", compare=False)
    ca_file: str = field(default="", compare=False)

    @property
    def token(self) -> str:
        """The fencing token."""
        return f"{self.job}.{self.restart}"


class SlurmService:
    """The service jobs of one target."""

    def __init__(self, root: Path, settings: SlurmSettings) -> None:
        self._root, self._settings = root, settings
        self._prefix = f"slipway.{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"

    def job_name(self, release: str) -> str:
        """Name of a release's jobs; another target on the same cluster has other names."""
        return f"{self._prefix}.{release}"

    def submit(self, release: Path, start: Mapping[str, Any]) -> int:
        """Submit a job that serves the release in this folder; its id. `start`: `argv`, `environment` with `{host}`,
        `{port}`, `{threads}`, `{cache}` left in, `stop_s`, `image` with `mounts` (host:container[:ro]) for Pyxis,
        `key_variables` that the engine reads its callers' key from, `ca` where it speaks TLS, and `caches` of the
        bundle that the node may start from (`slurm/node.py`).

        Raises ResourceError when Slurm refuses it or the disk is full, SilentError when nobody answers.
        """
        folder = release / FOLDER
        with disk_full_is_named(folder):
            for name in (REGISTERED, OVER):
                (folder / name).mkdir(parents=True, exist_ok=True)
            program = files("slipway.agent.slurm").joinpath("node.py").read_text(encoding="utf-8")
            write_atomic(folder / PROGRAM, program)
            document = {"argv": self._argv(start), "environment": start["environment"], "stop_s": start["stop_s"]}
            document |= {"key_variables": list(start.get("key_variables", ())), "ca": start.get("ca", "")}
            if "caches" in start:
                document["caches"] = {**start["caches"], "modules": str(_modules(folder / MODULES))}
            write_atomic(folder / JOB, json.dumps({**document, "ports": self._settings.ports}, indent=1))
            write_atomic(folder / SCRIPT, self._script(release))
        return int(slurm_commands.call("sbatch", "--parsable", str(folder / SCRIPT)).strip().split(";")[0])

    def registration(self, release: Path, job: int) -> Registration | None:
        """Where the attempt answers that the controller counts; null while there is none, whatever an older attempt
        registered. Raises SilentError, StateError for a registration that cannot be read."""
        state = slurm_commands.service_job(job)
        if state is None or not state.runs:
            return None
        file = release / FOLDER / REGISTERED / f"{job}.{state.restarts}"
        if not is_present(file):
            return None
        next_step = "`scontrol requeue` the job: it registers again"
        fields = Fields(read_json(file, f"registration of job {job}", next_step), f"registration {file}", next_step)
        key_file = str(release / FOLDER / KEYS / file.name) if fields.flag("key", False) else ""
        host = slurm_commands.node_address(state.node)
        return Registration(job, state.restarts, host, fields.integer("port"), key_file, fields.text("ca", ""))

    def state(self, job: int) -> ServiceJob | None:
        """What the controller says of a job; null for one that it forgot. Raises SilentError."""
        return slurm_commands.service_job(job)

    def cancel(self, release: Path, but: int | None = None) -> list[int]:
        """End every job of a release except `but`; the ids of those that waited or ran. A process that Slurm cannot
        reach any more ends itself when it sees that its job is over. Raises SilentError."""
        name = self.job_name(release.name)
        alive = slurm_commands.named(name, alive=True)
        for job in slurm_commands.named(name):
            if job != but:
                self.cancel_job(release, job)
        return [job for job in alive if job != but]

    def cancel_job(self, release: Path, job: int) -> None:
        """End one job of a release, as `cancel`."""
        over = release / FOLDER / OVER
        over.mkdir(parents=True, exist_ok=True)
        (over / str(job)).touch()
        slurm_commands.call("scancel", str(job))

    def jobs(self, release: Path) -> list[int]:
        """Ids of a release's jobs that wait or run, oldest first. Raises SilentError."""
        return slurm_commands.named(self.job_name(release.name))

    def releases_that_run(self) -> set[str]:
        """Names of this target's releases that have a job. Raises SilentError."""
        start = f"{self._prefix}."
        names = {name.removeprefix(start) for name in slurm_commands.names() if name.startswith(start)}
        return {name for name in names if re.fullmatch(NAME, name)}

    def requeue(self, job: int) -> None:
        """Have a job start again elsewhere: its engine runs and does not answer. Raises SilentError, ResourceError."""
        slurm_commands.call("scontrol", "requeue", str(job))

    def _argv(self, start: Mapping[str, Any]) -> list[str]:
        if not start.get("image") or not self._settings.container:
            return list(start["argv"])
        mounts = ",".join(start.get("mounts", ()))
        pyxis = [f"--container-image={enroot_name(start['image'])}", f"--container-mounts={mounts}"]
        exported = ",".join([*start["environment"], *start.get("key_variables", ())])
        return [
            "srun",
            "--kill-on-bad-exit=1",
            "--no-container-mount-home",
            f"--container-env={exported}",
            *pyxis,
            *start["argv"],
        ]

    def _script(self, release: Path) -> str:
        settings, folder = self._settings, release / FOLDER
        options = {
            "job-name": self.job_name(release.name),
            "comment": f"slipway.root={self._root} slipway.release={release.name}",
            "nodes": 1,
            "ntasks-per-node": 1,
            "time": settings.time_limit,
            "signal": f"B:USR1@{LAST_WARNING_S}",
            "open-mode": "append",
            "output": release / "engine.log",
            "chdir": folder,
            "export": "NONE",  # the submitter's logins are nobody's business on a node
            "gpus-per-node": settings.gpus or "",
            "partition": settings.partition,
            "account": settings.account,
            "qos": settings.qos,
        }
        lines = [f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in options.items() if value != ""]
        lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in settings.extra)]
        tools = [f'PATH="$PATH:"{shlex.quote(str(Path(tool).parent))}' for tool in [shutil.which("scontrol")] if tool]
        tools.append("export SLURM_EXPORT_ENV=ALL")  # what the program has, a step in a container has
        run = f"exec python3 {shlex.quote(str(folder / PROGRAM))} {shlex.quote(str(folder))}"
        return "\n".join(["#!/bin/bash", *lines, *tools, run]) + "\n"


def enroot_name(image: str) -> str:
    """`registry/path@sha256:...` as enroot writes it: `registry#path:sha256:...`. Raises ConfigError for an image that
    is not named by digest."""
    repository, at, digest = image.partition("@")
    if not at or not digest.startswith("sha256:"):
        raise ConfigError("image of an engine", image, "an image by digest, NAME@sha256:...", "a tag may be moved")
    registry, slash, path = repository.partition("/")
    if not slash or not set(registry) & set(".:"):
        return f"{repository}:{digest}"
    return f"{registry}#{path}:{digest}"


def _modules(file: Path) -> Path:
    """A zip of the modules that fill a node's cache, for its `sys.path`; replaced whole, a job may be reading it."""
    draft = file.with_name(f".{file.name}")
    with zipfile.ZipFile(draft, "w") as archive:
        for package in ("slipway", "slipway/agent"):
            archive.writestr(f"{package}/__init__.py", "")
        for name in NEEDED:
            archive.writestr(f"slipway/{name}.py", files("slipway").joinpath(f"{name}.py").read_bytes())
    return draft.replace(file)


def _tls(document: Mapping[str, Any]) -> EngineTls | None:
    """Section `deploy.slurm.tls`; null for an empty one. Raises StateError for a path that is absent."""
    if not document:
        return None
    fields = Fields(document, "deploy.slurm.tls", _MEND)
    return EngineTls(fields.text("certificate"), fields.text("key"), fields.text("ca"))


def _ports(value: object) -> tuple[int, int]:
    """First and last port. Raises ConfigError for anything else."""
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(port, int) for port in value)):
        raise ConfigError("deploy.slurm.ports", str(value)[:100], "first and last TCP port", _MEND)
    return int(value[0]), int(value[1])
