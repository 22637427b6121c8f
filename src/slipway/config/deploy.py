"""Section `deploy`: where releases go and how they are kept."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Folder, Host, Port, Section
from slipway.config.canary import CanaryConfig
from slipway.config.capture import CaptureConfig
from slipway.config.kubernetes import KubernetesConfig
from slipway.config.probe import ProbeConfig
from slipway.config.proxy import ProxyConfig
from slipway.config.routing import Route, RoutingConfig
from slipway.config.slurm_service import SlurmServiceConfig
from slipway.config.ssh import SshConfig
from slipway.config.trust import SigningConfig, TrustConfig


class DeployConfig(Section):
    """Where a passed candidate goes."""

    target: str = Field("local", description="A row of conf/deploy/; `auto`: a Spark or a DGX, by `routing`.")
    kind: Literal["local", "spark", "slurm", "kubernetes"] = Field(
        "local",
        description="`local` runs the engine on this machine, `spark` on one behind ssh, `slurm` as service jobs that "
        "are submitted from here, `kubernetes` as pods of a cluster.",
    )
    root: Folder = Field(".slipway/targets/local", description="Folder of releases, pointer and logs.")
    host: Host = Field("127.0.0.1", description="Address the engine listens on.")
    ports: tuple[Port, Port] = Field(
        (8091, 8099), description="First and last port to use, inclusive; a new engine takes a free one."
    )
    start_timeout_s: float | None = Field(
        None,
        gt=0,
        description="Longest wait for a new engine's health, seconds; null: what its plan gives a cold start, or three "
        "times the longest start that was measured, where that is longer.",
    )
    runtime: Literal["none", "docker", "podman"] = Field(
        "none", description="What runs engines that are containers on the target; `none`: they are processes."
    )
    smoke_requests: int = Field(3, ge=1, description="Test rows asked of the new engine before the switch.")
    policy: Literal["own-line", "ask", "never"] = Field(
        "own-line",
        description="What a run may replace by itself; `own-line`: schedules and events only a champion of their own "
        "line that no person chose; `ask`: a person is asked in the Prefect UI; `never`: only `slipway promote` does.",
    )
    answer_within_s: float = Field(
        7 * 24 * 3600, gt=0, description="How long a question to a person stays open, seconds; then it counts as no."
    )
    way: Literal["beside", "held", "auto"] = Field(
        "beside",
        description="`beside`: the new engine starts beside the old one; `held`: memory holds one engine only, "
        "requests wait in the proxy, at most deploy.proxy.hold_limit_s; `auto`: by what is planned and what is free.",
    )
    reserve_gb: float = Field(8.0, ge=0, description="Memory that ways `auto` and `beside` leave free, GB.")
    keep_releases: int = Field(3, ge=2, description="Releases kept on the target, the serving one included.")
    routing: RoutingConfig = Field(default_factory=RoutingConfig, description="What `target: auto` chooses by.")
    routed: Route | None = Field(None, description="What `target: auto` chose; written by it, not by a person.")

    signing: SigningConfig = Field(default_factory=SigningConfig, description="Who signs releases.")
    trust: TrustConfig = Field(default_factory=TrustConfig, description="Whose releases the target takes.")
    canary: CanaryConfig = Field(default_factory=CanaryConfig, description="Real traffic before the switch.")
    capture: CaptureConfig = Field(default_factory=CaptureConfig, description="How much of captured prompts is kept.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="How a candidate is asked before the switch.")
    proxy: ProxyConfig = Field(default_factory=ProxyConfig, description="The one address that clients use.")
    ssh: SshConfig | None = Field(None, description="How a target of kind `spark` is reached.")
    slurm: SlurmServiceConfig | None = Field(None, description="How service jobs of kind `slurm` are submitted.")
    kubernetes: KubernetesConfig | None = Field(None, description="The cluster of kind `kubernetes`.")

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.ports[0] > self.ports[1]:
            raise ValueError(f"deploy.ports={list(self.ports)} starts after it ends; give the lower port first")
        if self.proxy.kind != "none" and self.ports[0] <= self.proxy.port <= self.ports[1]:
            raise ValueError(f"deploy.proxy.port={self.proxy.port} is one of the engines' ports {list(self.ports)}")
        for kind, section in (("spark", "ssh"), ("slurm", "slurm"), ("kubernetes", "kubernetes")):
            if (self.kind == kind) != (getattr(self, section) is not None):
                raise ValueError(f"deploy.{section} goes with deploy.kind={kind}: give both, or neither")
        return self
