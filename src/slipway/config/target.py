"""Machines that train, and the images they run: rows of `conf/targets/` and `conf/images.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from slipway.config.base import Section, born, check_authority


class LocalRunConfig(Section):
    """Training as a process of this machine, which has NeMo AutoModel installed."""

    kind: Literal["local"] = Field("local", description="A process group of its own.")


_SOCKETS = ("unix", "http+unix")
_NETWORK = ("tcp", "ssh", "http", "https")


def _check_engine(address: str) -> str:
    """An address of a docker engine: a socket's path, or a host that a password is never part of."""
    scheme, separator, rest = address.partition("://")
    if not separator or not rest or scheme not in (*_SOCKETS, *_NETWORK):
        raise PydanticCustomError("engine", "unix://PATH, tcp://HOST:PORT or ssh://USER@HOST")
    if scheme in _NETWORK:
        user, _, authority = rest.split("/")[0].rpartition("@")
        if ":" in user:
            raise PydanticCustomError("engine", "an address without a password; use ssh keys")
        check_authority(authority)
    return address


def _check_staging(path: str | None) -> str | None:
    """An absolute path that needs no quoting in a shell, two folders deep at least: what is below it is ours."""
    if path is not None and not re.fullmatch(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){2,20}", path):
        raise PydanticCustomError("staging", "an absolute path of letters, digits, `.`, `_` and `-`, below some folder")
    return path


class DockerConfig(Section):
    """Training in a container of a docker engine, which has the store and the model under the same paths as here."""

    kind: Literal["docker"] = Field(description="A container, through the engine's API.")
    host: Annotated[str, AfterValidator(_check_engine)] | None = Field(
        None, description="Engine: `unix://`, `tcp://` or `ssh://user@host`; null: DOCKER_HOST, else this machine's."
    )
    image: str = Field("nemo-automodel", description="Key of conf/images.yaml.")
    gpus: bool = Field(True, description="Ask the engine for the target's GPUs.")
    staging: Annotated[str | None, AfterValidator(_check_staging), born(None)] = Field(
        None,
        description="Folder of the engine's machine that what a job reads is copied to and what it writes is fetched "
        "from, over ssh; null: both machines have the same paths.",
    )

    @model_validator(mode="after")
    def _staged_over_ssh(self) -> Self:
        if self.staging and self.host and not self.host.startswith("ssh://"):
            raise ValueError(
                f"target.runner.staging goes over ssh; target.runner.host={self.host} is reached otherwise"
            )
        return self

    def key_document(self) -> dict[str, Any]:
        """Without the staging folder: where a job's files lie decides nothing that is made."""
        return {name: value for name, value in super().key_document().items() if name != "staging"}


class SlurmConfig(Section):
    """Training under Slurm, in a container through Pyxis."""

    kind: Literal["slurm"] = Field(description="sbatch, squeue, sacct and scancel.")
    image: str = Field("nemo-automodel", description="Key of conf/images.yaml.")
    container: bool = Field(
        True, description="Pyxis: --container-image and --container-mounts; off: what the nodes have installed."
    )
    partition: str | None = Field(None, description="Partition; null: the cluster's default.")
    account: str | None = Field(None, description="Account; null: the user's default.")
    qos: str | None = Field(None, description="Quality of service; null: the default.")
    time_limit: str = Field("04:00:00", description="Time limit of one attempt, HH:MM:SS.")
    signal_s: int = Field(
        300, ge=1, description="Seconds before the time limit at which the job is told to save and stop."
    )
    lease_s: float = Field(
        120,
        gt=0,
        description="Seconds an attempt may fail to reach the shared filesystem before it is presumed dead; it ends "
        "itself at 2/3.",
    )
    poll_s: float = Field(5, ge=0, description="Seconds between two questions to the controller about one job.")
    patience_s: float = Field(300, ge=0, description="Seconds the controller may not answer before that is an error.")
    extra: list[str] = Field(default_factory=list, description="More sbatch options, as on its command line.")


class GuardConfig(Section):
    """When a model that loads is stopped, on a machine whose CPU and GPU share the memory."""

    available_gb: float = Field(8.0, ge=0, description="Stop before fewer GB are available (MemAvailable).")
    free_gb: float = Field(8.0, ge=0, description="Drop the page cache when fewer GB are free (MemFree).")
    drop_caches: bool = Field(False, description="Whether it may be dropped; writing to /proc/sys/vm needs root.")
    stalled: float = Field(
        0.5, gt=0, le=1, description="Stop when nothing could run for want of memory for this share of a second (PSI)."
    )
    every_s: float = Field(0.25, gt=0, le=1, description="Seconds between two readings.")
    react_s: float = Field(1.0, ge=0, description="Seconds that stopping may take; memory falls on meanwhile.")
    kernel_log: str = Field("/dev/kmsg", min_length=1, description="Kernel log, watched for NV_ERR_NO_MEMORY.")


class TargetConfig(Section):
    """A machine that trains. A new machine is a new row of conf/targets/."""

    name: str = Field("local", description="Name of the row.")
    arch: Literal["amd64", "arm64"] = Field("amd64", description="CPU architecture, as container registries call it.")
    nodes: int = Field(1, ge=1, description="Nodes used by one job.")
    gpus: int = Field(0, ge=0, description="GPUs per node; 0: the CPU trains.")
    gpu_memory_gb: float | None = Field(None, gt=0, description="Memory of one GPU, GB; null: no GPU.")
    preempt_training: Annotated[bool, born(False)] = Field(
        False,
        description="Training makes room at its last checkpoint for more urgent work on this machine (serving, "
        "evaluation, builds), and goes on afterwards.",
    )
    unified_memory: bool = Field(False, description="CPU and GPU share the memory: loading and page cache count too.")
    reserve_gb: float = Field(4.0, ge=0, description="GPU memory kept free, GB.")
    usable_gb: Annotated[float | None, born(None)] = Field(
        None,
        gt=0,
        description="What work may take of one GPU, GB, as `slipway probe` measured it; null: by the reserve.",
    )
    bandwidth_gb_s: float | None = Field(None, gt=0, description="Memory bandwidth of one GPU, GB/s.")
    compute_capability: str | None = Field(None, description="CUDA compute capability, e.g. sm_121.")
    formats: list[str] = Field(default_factory=list, description="Weight formats the hardware computes in.")
    guard: Annotated[GuardConfig | None, born(None)] = Field(
        None, description="When a model that loads is stopped; null: it is not watched."
    )
    runner: LocalRunConfig | DockerConfig | SlurmConfig = Field(
        default_factory=LocalRunConfig, discriminator="kind", description="How training jobs reach it."
    )

    def key_document(self) -> dict[str, Any]:
        """Without the guard and what was probed: when a load is stopped and what must fit decide nothing that is made.
        An engine whose number of GPUs follows from it has it in its fingerprint (`engines/fingerprint.py`)."""
        kept_out = ("guard", "usable_gb")
        return {name: value for name, value in super().key_document().items() if name not in kept_out}

    @property
    def in_container(self) -> bool:
        """Whether a training job runs in a container: always with docker, under Slurm unless `runner.container` is
        off."""
        if isinstance(self.runner, SlurmConfig):
            return self.runner.container
        return isinstance(self.runner, DockerConfig)
