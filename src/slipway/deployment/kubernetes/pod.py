"""The pod of a release on Kubernetes: its container, volumes, probes and waits, as plain mappings.

The bundle is an image volume (or a claim) mounted read-only, so its digest in the pod is the digest that was gated.
What the engine writes goes to empty volumes: a pod starts cold. Waits come from figures: the startup probe allows twice
the measured start, at least two minutes (a probe that kills a slow load restarts it for ever, kserve#5062); the grace
period is the engine's drain plus the time that endpoints take to forget the pod. `enableServiceLinks` is off because a
Service named vllm would set VLLM_PORT, which vLLM reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from slipway.config.kubernetes import PRE_STOP_SLEEP, KubernetesConfig, SecretKey
from slipway.engines.driver import KEY_VARIABLES, ServePlan
from slipway.errors import ConfigError

Manifest = dict[str, Any]
BUNDLE, CACHE, FILES, TMP = "/mnt/models", "/cache", "/config", "/tmp"  # noqa: S108 (an empty volume in the pod)
PROBE_S = 5
LEAST_START_S = 120.0
ENDPOINTS_S = 15  # a pod goes on answering until proxies and gateways have forgotten it
_NIM_HEALTH = "/v1/health/ready"


@dataclass(frozen=True)
class KubernetesRelease:
    """What is rendered. `digest`: of the bundle's OCI manifest, `sha256:...`; `arch`: as registries call it; `bundle`
    and `model`: folders below `/models` of the bundle's image; `start_s`: the longest measured start, null: unmeasured;
    `digests`: of the artifacts, hex by kind."""

    name: str
    digest: str
    plan: ServePlan
    arch: str
    bundle: str = "engine"
    model: str = "engine/model"
    start_s: float | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


def pod(release: KubernetesRelease, params: KubernetesConfig, config_map: str) -> Manifest:
    """The pod's spec: one container, nothing of the API server in it, root nowhere. `config_map`: name of the ConfigMap
    that holds the plan's files, where it has any. Raises ConfigError as `container`."""
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(release.plan),
        "nodeSelector": {"kubernetes.io/arch": release.arch, **params.node_selector},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": params.user,
            "runAsGroup": params.user,
            "fsGroup": params.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(release, params)],
        "volumes": volumes(release, params, config_map),
    }
    if _gpus(release.plan):
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if params.runtime_class:
        spec["runtimeClassName"] = params.runtime_class
    if params.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in params.pull_secrets]
    return spec


def container(
    release: KubernetesRelease, params: KubernetesConfig, name: str = "engine", *, mounts_bundle: bool = True
) -> Manifest:
    """The engine's container: command, probes, limits.

    Raises ConfigError for a plan that cannot run so: no image by digest, several nodes, a key that nobody checks.
    """
    plan, nim = release.plan, params.nim
    health = _NIM_HEALTH if nim else plan.health
    http = {"path": health, "port": "http"}
    probe = {"httpGet": http, "periodSeconds": PROBE_S, "timeoutSeconds": 2}
    sleep: Manifest = {"exec": {"command": ["sleep", str(ENDPOINTS_S)]}}
    if params.minor >= PRE_STOP_SLEEP:  # asks for no program in the image
        sleep = {"sleep": {"seconds": ENDPOINTS_S}}
    mount = {"name": "bundle", "mountPath": BUNDLE, "readOnly": True}
    mount["subPath"] = "models" if params.claim is None else release.digest.replace(":", "-")
    return {
        "name": name,
        "image": nim.image if nim else image_of(plan),
        **({} if nim else {"command": command(release, params)}),
        "env": environment(release, params),
        "ports": [{"name": "http", "containerPort": params.port}],
        "resources": _resources(plan, params),
        "startupProbe": {**probe, "failureThreshold": math.ceil(start_seconds(release) / PROBE_S)},
        "readinessProbe": {**probe, "failureThreshold": 3},
        # a long prefill holds answers up; a server that is gone does not come back in five minutes either
        "livenessProbe": {**probe, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 10},
        "lifecycle": {"preStop": sleep},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            *((mount,) if mounts_bundle else ()),
            *(({"name": "config", "mountPath": FILES, "readOnly": True},) if plan.files else ()),
            {"name": "cache", "mountPath": CACHE},
            {"name": "tmp", "mountPath": TMP},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 (a volume of the pod)
        ],
    }


def volumes(release: KubernetesRelease, params: KubernetesConfig, config_map: str) -> list[Manifest]:
    """The bundle, read-only, and what the engine may write: caches, temporary files, shared memory."""
    source: Manifest = {"image": {"reference": f"{params.repository}@{release.digest}", "pullPolicy": "IfNotPresent"}}
    if params.claim:
        source = {"persistentVolumeClaim": {"claimName": params.claim, "readOnly": True}}
    return [{"name": "bundle", **source}, *own_volumes(release, params, config_map)]


def own_volumes(release: KubernetesRelease, params: KubernetesConfig, config_map: str) -> list[Manifest]:
    """The plan's config files, and what is empty at each start of a pod."""
    files = [{"name": "config", "configMap": {"name": config_map}}] if release.plan.files else []
    shared = {"medium": "Memory", "sizeLimit": _mebibytes(params.shared_memory_gb)}
    return [
        *files,
        {"name": "cache", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": shared},
    ]


def command(release: KubernetesRelease, params: KubernetesConfig) -> list[str]:
    """The plan's command with the pod's places in it. Raises ConfigError for one that only several nodes can run."""
    if any("SLURM_" in word for word in release.plan.argv):
        ranks = release.plan.limits.tensor_parallel * release.plan.limits.pipeline_parallel
        raise ConfigError(
            "engine on Kubernetes",
            f"{ranks} ranks on several nodes, started by Slurm",
            "one pod on one node",
            "lower engine.tensor_parallel, or promote to a Slurm target",
        )
    return [_filled(word, release, params) for word in release.plan.argv]


def environment(release: KubernetesRelease, params: KubernetesConfig) -> list[Manifest]:
    """Variables of the container; keys come out of Secrets and are in no manifest."""
    plan, nim = release.plan, params.nim
    secrets = [_secret(_key_variable(plan, params), params.api_key)] if params.api_key else []
    if nim:
        model = f"{BUNDLE}/{release.model}"
        words = {"NIM_FT_MODEL": model, "NIM_SERVED_MODEL_NAME": plan.alias, "NIM_SERVER_PORT": str(params.port)}
        words |= {"NIM_CACHE_PATH": f"{CACHE}/nim", "HOME": TMP, "NIM_CUSTOM_MODEL_NAME": plan.alias}
        if nim.backend == "trtllm":
            words |= {"NIM_USE_TRTLLM_LEGACY_BACKEND": "1", "NIM_DISABLE_TRTLLM_PYTORCH_RT": "1"}
        secrets.append(_secret("NGC_API_KEY", nim.key))
    else:
        filled = {name: _filled(value, release, params) for name, value in plan.environment.items()}
        words = {"HOME": TMP, **filled}
    return [{"name": name, "value": value} for name, value in sorted(words.items())] + secrets


def image_of(plan: ServePlan) -> str:
    """The engine's image by digest. Raises ConfigError for a plan without one."""
    if plan.image is None or "@sha256:" not in plan.image:
        raise ConfigError(
            "image of the engine",
            plan.image or "none: it is installed on a machine",
            "REPOSITORY@sha256:..., which a cluster pulls",
            "build the engine with engine.image=vllm, pinned by `slipway pin`",
        )
    return plan.image


def start_seconds(release: KubernetesRelease) -> float:
    """Seconds a pod's engine may take until it answers: twice the measured start, else the plan's longest."""
    if release.start_s is None:
        return max(LEAST_START_S, release.plan.start_s)
    return max(LEAST_START_S, 2 * release.start_s)


def grace_seconds(plan: ServePlan) -> int:
    """Seconds between the end of a pod being asked for and its being killed: above preStop and drain."""
    return math.ceil(ENDPOINTS_S + plan.stop_s + 10)


def rendered_files(release: KubernetesRelease, params: KubernetesConfig) -> dict[str, str]:
    """The plan's config files with the pod's places in them, by name."""
    return {name: _filled(text, release, params) for name, text in release.plan.files.items()}


def _filled(text: str, release: KubernetesRelease, params: KubernetesConfig) -> str:
    places = {
        "bundle": str(PurePosixPath(BUNDLE) / release.bundle),
        "model": str(PurePosixPath(BUNDLE) / release.model),
        "cache": CACHE,
        "host": "0.0.0.0",  # noqa: S104 (in a pod)
        "port": str(params.port),
        "threads": str(max(1, math.floor(params.cpus))),
    }
    for name in release.plan.files:  # as rendered, not as it lies in the bundle
        text = text.replace(f"{{bundle}}/{name}", f"{FILES}/{name}")
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _key_variable(plan: ServePlan, params: KubernetesConfig) -> str:
    if params.nim or plan.kind not in KEY_VARIABLES:
        raise ConfigError(
            "deploy.kubernetes.api_key",
            "NIM" if params.nim else plan.kind,
            f"an engine that checks a key itself: {', '.join(KEY_VARIABLES)}",
            "leave it out and let a gateway check the key",
        )
    return KEY_VARIABLES[plan.kind]


def _secret(variable: str, key: SecretKey) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}


def _gpus(plan: ServePlan) -> int:
    return 0 if plan.kind == "llama.cpp" else plan.limits.tensor_parallel * plan.limits.pipeline_parallel


def _resources(plan: ServePlan, params: KubernetesConfig) -> Manifest:
    """Memory is asked for and limited alike; a CPU limit would only throttle the scheduler of the engine."""
    memory = _mebibytes(params.memory_gb)
    gpus = {"nvidia.com/gpu": str(_gpus(plan))} if _gpus(plan) else {}
    cpu = f"{math.ceil(params.cpus * 1000)}m"
    return {"requests": {"cpu": cpu, "memory": memory, **gpus}, "limits": {"memory": memory, **gpus}}


def _mebibytes(gigabytes: float) -> str:
    return f"{math.ceil(gigabytes * 1e9 / 2**20)}Mi"
