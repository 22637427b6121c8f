"""Section `deploy.kubernetes`: how a release runs on a Kubernetes cluster."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import InputFile, Port, Section

# RFC 1035 label, short enough that `NAME-0007-3fa9c1d2` fits into the 63 characters of a Service's name
Name = Annotated[str, Field(pattern="^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Digested = Annotated[str, Field(pattern="^[a-z0-9][^\\s@]*@sha256:[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^1\.(29|3[0-7])$")]
IMAGE_VOLUMES = (1, 33)  # subPath of an image volume
PRE_STOP_SLEEP = (1, 30)


class CanaryConfig(Section):
    """Shares of the requests that a candidate answers before it gets all."""

    percent: list[Annotated[int, Field(ge=1, le=99)]] = Field(
        default_factory=lambda: [1, 10, 50],
        description="Percent, one step after another; [] switches at once. Never 0: such a route drops connections "
        "later.",
    )
    step_s: float = Field(300, ge=0, description="Seconds at each step.")
    failures: int = Field(0, ge=0, description="Restarts of the candidate's pods that are let pass.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.percent != sorted(set(self.percent)):
            raise ValueError(f"deploy.kubernetes.canary.percent={self.percent}: give rising percentages")
        return self


class SecretKey(Section):
    """A key of a Secret that is there already; its value is never read by Slipway."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)] = Field(
        description="Name of the Secret, in the namespace."
    )
    key: Annotated[str, Field(pattern="^[-._a-zA-Z0-9]+$", max_length=253)] = Field("api-key", description="Key in it.")


class NimConfig(Section):
    """NVIDIA NIM in place of the engine's own image; the model is given to it as a fine-tuned one."""

    image: Digested = Field(description="`nvcr.io/nim/...@sha256:...`: by digest.")
    key: SecretKey = Field(description="NGC_API_KEY, which NIM asks for.")
    backend: Literal["pytorch", "trtllm"] = Field(
        "trtllm",
        description="NIM's default PyTorch backend does not support fine-tuned models: `trtllm` sets its legacy one.",
    )


class KubernetesConfig(Section):
    """Where and how pods of a release run."""

    flavor: Literal["deployment", "kserve"] = Field(
        "deployment", description="`deployment`: Deployment, Service, PDB; `kserve`: InferenceService and its runtime."
    )
    version: Version = Field("1.35", description="Version of the cluster, which decides fields: MAJOR.MINOR.")
    kubeconfig: InputFile | None = Field(None, description="Path of a kubeconfig; null: KUBECONFIG, ~/.kube/config.")
    context: str | None = Field(None, min_length=1, description="Context in it; null: the current one.")
    namespace: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] = Field(
        "default", description="Namespace, which is there already."
    )
    name: Name = Field("slipway", description="Name of the Service that clients use; begins the names of the rest.")
    repository: Annotated[str, Field(pattern="^[a-z0-9][-._:/a-z0-9]*/[-._/a-z0-9]+$")] = Field(
        "registry.invalid/slipway", description="Repository that bundles are pushed to: REGISTRY/PATH without tag."
    )
    claim: Name | None = Field(
        None, description="PersistentVolumeClaim that holds bundles by digest; null: an image volume of `repository`."
    )
    replicas: int = Field(1, ge=1, le=64, description="Pods of the serving release.")
    port: Port = Field(8000, description="Port of the engine in its pod, and of the Service.")
    cpus: float = Field(4, gt=0, description="CPUs that a pod asks for.")
    memory_gb: float = Field(32, gt=0, description="Memory of a pod, GB: asked for, and its limit.")
    shared_memory_gb: float = Field(8, gt=0, description="Size of /dev/shm, GB; counted in `memory_gb`.")
    user: int = Field(1000, ge=1, description="User and group id of the engine in its pod; never root.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of nodes, besides the CPU's.")
    runtime_class: Name | None = Field(None, description="RuntimeClass, as `nvidia`; null: the cluster's default.")
    pull_secrets: list[str] = Field(default_factory=list, description="Secrets for the registries of both images.")
    api_key: SecretKey | None = Field(None, description="Key that clients send; null: whoever reaches it may ask.")
    gateway: Name | None = Field(
        None, description="Gateway (gateway.networking.k8s.io) whose HTTPRoute weights a canary; null: it has none."
    )
    canary: CanaryConfig = Field(default_factory=CanaryConfig, description="Steps before all requests go over.")
    nim: NimConfig | None = Field(None, description="NVIDIA NIM in place of the engine's image.")
    start_timeout_s: float = Field(3600, gt=0, description="Longest wait for a pod that pulls images and is scheduled.")
    lease_s: int = Field(60, ge=10, le=3600, description="Seconds after which a lock that nobody renews may be taken.")

    @property
    def minor(self) -> tuple[int, int]:
        """The cluster's version as numbers."""
        return (1, int(self.version.split(".")[1]))

    @model_validator(mode="after")
    def _known_ways(self) -> Self:
        if self.claim is None and self.minor < IMAGE_VOLUMES:
            raise ValueError(
                f"deploy.kubernetes.version={self.version}: image volumes with subPath came in 1.33 (KServe's modelcar "
                "needs a shell in the image, and a bundle has none); give `claim` with flavor deployment"
            )
        if self.flavor == "kserve" and self.claim is not None:
            raise ValueError("deploy.kubernetes.claim: flavor kserve mounts the bundle's image itself; leave it out")
        if self.flavor == "kserve" and self.nim is not None:
            raise ValueError("deploy.kubernetes.nim: a NIM is a Deployment here; use flavor deployment")
        if self.shared_memory_gb >= self.memory_gb:
            raise ValueError(
                f"deploy.kubernetes.shared_memory_gb={self.shared_memory_gb:g} leaves nothing of "
                f"memory_gb={self.memory_gb:g}"
            )
        return self
