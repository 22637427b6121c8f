"""Section `deploy.slurm`: how a release serves as a job of Slurm, for longer than a job's time limit.

The target's `deploy.root`, the store and the models lie on a filesystem that login host and nodes share under the same
paths. The agent stands on the host where Slipway runs; its proxy is the address of clients.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from slipway.config.base import Port, Section

LEAST_LEFT_S = 60  # before the limit a job without a successor asks to be requeued


class EngineTlsConfig(Section):
    """TLS between the proxy and the engines: files that login host and nodes see under the same paths."""

    certificate: str = Field(min_length=1, description="Certificate chain of every engine, PEM.")
    key: str = Field(min_length=1, description="Its private key, PEM, mode 600.")
    ca: str = Field(
        min_length=1,
        description="What signed it, PEM, and signs nothing else: names in certificates are not looked at.",
    )


class SlurmServiceConfig(Section):
    """A service job; a successor is started before its time limit, so that somebody always serves."""

    partition: str | None = Field(None, min_length=1, description="Partition; null: the cluster's default.")
    account: str | None = Field(None, min_length=1, description="Account; null: the user's default.")
    qos: str | None = Field(None, min_length=1, description="Quality of service; null: the default.")
    gpus: int = Field(0, ge=0, description="GPUs of one job.")
    time_limit: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:\d\d:\d\d$")] = Field(
        "7-00:00:00", description="Time limit of one job, [D-]HH:MM:SS."
    )
    successor_s: float = Field(
        3600, gt=0, description="Seconds before the limit at which another job is submitted; queue and start included."
    )
    queue_s: float = Field(3600, gt=0, description="Longest wait for a node at a promotion, seconds.")
    unhealthy_s: float = Field(
        180, gt=0, description="Seconds without an answer after which a running job is requeued."
    )
    container: bool = Field(True, description="Pyxis runs the plan's image; off: what the nodes have installed runs.")
    ports: tuple[Port, Port] = Field((20000, 31999), description="First and last port that an engine takes on a node.")
    tls: EngineTlsConfig | None = Field(
        None, description="TLS of the engines; null: plain HTTP on the cluster's network."
    )
    keyless: bool = Field(
        False,
        description="An engine that checks no key (TensorRT-LLM) may serve here: whoever reaches its node may ask it.",
    )
    extra: list[str] = Field(default_factory=list, description="More sbatch options, as on its command line.")

    @model_validator(mode="after")
    def _time_for_a_successor(self) -> Self:
        days, dash, rest = self.time_limit.rpartition("-")
        clock = rest if dash else self.time_limit
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        limit = 86400 * int(days or 0) + 3600 * hours + 60 * minutes + seconds
        if self.successor_s + LEAST_LEFT_S >= limit:
            raise ValueError(
                f"deploy.slurm.successor_s={self.successor_s:g} of a time limit of {limit} s: it must be less than the "
                f"limit by more than {LEAST_LEFT_S} s"
            )
        if self.ports[0] > self.ports[1]:
            raise ValueError(f"deploy.slurm.ports={list(self.ports)} starts after it ends; give the lower port first")
        return self
