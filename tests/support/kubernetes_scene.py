"""A cluster, a target on it, and releases whose engines answer with their own names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import KubernetesAPI, Reply
from slipway.deployment.kubernetes.pod import KubernetesRelease
from slipway.deployment.kubernetes.target import Ask, KubernetesTarget
from slipway.engines.driver import Limits
from slipway.store.artifacts import Engine
from slipway.store.store import Store, load
from tests.support import kubernetes_engine
from tests.support.kubernetes_releases import kubernetes_params, kubernetes_release, serve_plan
from tests.support.kubernetes_server import Cluster
from tests.support.shippable import PLAN

FLAVORS = ["deployment", "kserve"]
OBJECTS = {
    "deployment": [("Deployment", "chat-{}"), ("Service", "chat-{}"), ("Service", "chat")],
    "kserve": [("ServingRuntime", "chat-{}"), ("InferenceService", "chat")],
}
RECORDS = [("ConfigMap", "chat-{}-manifests"), ("ConfigMap", "chat-{}-record")]
ONE, TWO, THREE = "0001-00000000", "0002-11111111", "0003-22222222"


def release(name: str, mode: str = "serve") -> KubernetesRelease:
    """A release whose engine answers with its own name."""
    argv = [sys.executable, "-SE", kubernetes_engine.__file__, "{port}", name, mode]
    plan = serve_plan(kind="llama.cpp", argv=argv, environment={}, limits=Limits(context=128, slots=1))
    return kubernetes_release(name, plan=plan, start_s=1.0)


class Scene:
    """A cluster and its target."""

    def __init__(self, cluster: Cluster, config: Path) -> None:
        self.cluster, self.config = cluster, config
        self.notes: list[str] = []

    def params(self, **more: Any) -> KubernetesConfig:
        canary = {"percent": [], "step_s": 0}
        values = {"kubeconfig": str(self.config), "start_timeout_s": 60, "lease_s": 10, "canary": canary, **more}
        return kubernetes_params(**values)

    def target(self, owner: str = "me", **more: Any) -> KubernetesTarget:
        params = self.params(**more)
        return KubernetesTarget(KubernetesAPI(params), params, owner, self.notes.append, poll_s=0.05)

    def lose(self, things: list[tuple[str, str]], release: str) -> list[str]:
        """Delete objects of a release as somebody with kubectl does; as `KIND NAME`."""
        for kind, name in things:
            self.cluster.lose(kind, name.format(release))
        return sorted(f"{kind} {name.format(release)}" for kind, name in things)

    def ask(self, name: str = "chat") -> Reply:
        return KubernetesAPI(self.params()).ask(name, 8000, "/v1/x", {"a": 1})


def fine(_: Ask) -> None:
    """A check that asks nothing."""


def cluster_engine(tmp_path: Path, key: str, mode: str = "serve") -> Engine:
    """An engine whose server answers with `key`."""
    store = Store(tmp_path / "store")
    if (folder := store.dir("engine", key)).exists():
        return load(Engine, folder)
    argv = [sys.executable, "-SE", kubernetes_engine.__file__, "{port}", key, mode]
    limits = Limits(context=128, slots=1)
    plan = PLAN.model_copy(update={"kind": "llama.cpp", "argv": argv, "limits": limits, "environment": {}})
    provenance = {"stage": "engine", "inputs": {}, "params": {"serving": {"arch": "amd64"}}}
    with store.create(Engine, key, provenance) as out:
        (out / "serve.json").write_text(plan.model_dump_json())
        (out / "boots.json").write_text("[]\n")
    return load(Engine, store.dir("engine", key))


def deploy(scene: Scene, **more: Any) -> DeployConfig:
    """The config of a target on this cluster."""
    cluster = scene.params(**more).model_dump(mode="json")
    return DeployConfig.model_validate({"target": "k", "kind": "kubernetes", "kubernetes": cluster})
