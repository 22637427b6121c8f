"""The objects of a release on Kubernetes, as plain mappings: Deployment, Service and PDB, and what routes to them.

    NAME-RELEASE   Deployment, Service and PodDisruptionBudget of one release: immutable, scaled to 0 when it is left
    NAME           the Service that clients use: its selector, or the HTTPRoute before it, says which release serves

Pods are `kubernetes_pod.py`'s; with KServe, `kserve_manifests.py` renders other objects around the same container.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from slipway.config.kubernetes import IMAGE_VOLUMES, KubernetesConfig
from slipway.deployment.kubernetes.pod import KubernetesRelease, Manifest, pod, rendered_files, start_seconds
from slipway.errors import ConfigError

RELEASE = "slipway.release"  # label
IMAGES_DEFAULT = (1, 35)  # image volumes need a feature gate before that


def object_name(params: KubernetesConfig, release: str) -> str:
    """Name of a release's objects: `slipway-0007-3fa9c1d2`."""
    return f"{params.name}-{release}"


def release_objects(
    release: KubernetesRelease, params: KubernetesConfig, replicas: int | None = None
) -> list[Manifest]:
    """Deployment, Service and PDB of a release, and the ConfigMap of its config files. `replicas`: null for the
    config's; 0 keeps it for a rollback.

    Raises ConfigError for a plan that Kubernetes cannot run here: no image by digest, several nodes, a key that the
    engine cannot check.
    """
    return [
        *config_map(release, params),
        deployment(release, params, params.replicas if replicas is None else replicas),
        service(params, object_name(params, release.name), release.name),
        disruption_budget(params, release.name),
    ]


def deployment(release: KubernetesRelease, params: KubernetesConfig, replicas: int) -> Manifest:
    """The Deployment of one release; its pods are replaced one by one, a new one first."""
    seconds = start_seconds(release)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **metadata(params, object_name(params, release.name), release.name),
            **digest_annotations(release),
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": math.ceil(params.start_timeout_s + seconds),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(params, release.name)},
            "template": {
                "metadata": {"labels": labels(params, release.name), **digest_annotations(release)},
                "spec": pod(release, params, object_name(params, release.name)),
            },
        },
    }


def config_map(release: KubernetesRelease, params: KubernetesConfig) -> list[Manifest]:
    """The ConfigMap of the plan's config files, where it has any; it cannot be changed afterwards."""
    files = rendered_files(release, params)
    name = metadata(params, object_name(params, release.name), release.name)
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "immutable": True, "data": files}
    return [document] if files else []


def service(params: KubernetesConfig, name: str, release: str) -> Manifest:
    """A Service that sends to the pods of one release."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(params, name, release),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(params, release),
            "ports": [{"name": "http", "port": params.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget(params: KubernetesConfig, release: str) -> Manifest:
    """One pod at a time may be evicted where there are several; a single one is not: whoever drains its node promotes
    or scales first. A pod that is not ready is let go in either case."""
    most = {"maxUnavailable": 1} if params.replicas > 1 else {"minAvailable": 1}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(params, object_name(params, release), release),
        "spec": {
            **most,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(params, release)},
        },
    }


def route(params: KubernetesConfig, weights: Mapping[str, int]) -> Manifest:
    """The HTTPRoute of the Gateway: release -> share of the requests, in percent. Raises ConfigError without a gateway
    in the config, and for shares that do not sum to 100 or of which one is below 1."""
    if params.gateway is None:
        raise ConfigError("deploy.kubernetes.gateway", "none", "a Gateway, to weight a canary", "set canary.percent=[]")
    if sum(weights.values()) != 100 or min(weights.values(), default=0) < 1:
        shown = ", ".join(f"{name} {share}" for name, share in weights.items())
        raise ConfigError("shares of a route", shown or "none", "each at least 1, together 100", "correct them")
    backends = [
        {"name": object_name(params, name), "port": params.port, "weight": share} for name, share in weights.items()
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(params, params.name, max(weights, key=lambda name: weights[name])),
        "spec": {"parentRefs": [{"name": params.gateway}], "rules": [{"backendRefs": backends}]},
    }


def selector(params: KubernetesConfig, release: str) -> dict[str, str]:
    """Labels that choose the pods of one release."""
    return {"app.kubernetes.io/instance": params.name, RELEASE: release}


def labels(params: KubernetesConfig, release: str) -> dict[str, str]:
    """Labels of every object of a release."""
    return {
        "app.kubernetes.io/name": "slipway",
        "app.kubernetes.io/managed-by": "slipway",
        **selector(params, release),
    }


def metadata(params: KubernetesConfig, name: str, release: str) -> Manifest:
    """Name, namespace and labels."""
    return {"name": name, "namespace": params.namespace, "labels": labels(params, release)}


def digest_annotations(release: KubernetesRelease) -> Manifest:
    """Whole digests: a label's value holds 63 characters, a sha256 has 64."""
    digests = {f"slipway.digest/{kind}": digest for kind, digest in sorted(release.digests.items())}
    return {"annotations": {"slipway.bundle": release.digest, **digests}}


def notes(params: KubernetesConfig) -> list[str]:
    """What a person should know of this cluster's version and of what the manifests cannot do there."""
    lines = []
    if params.claim is None and IMAGE_VOLUMES <= params.minor < IMAGES_DEFAULT:
        lines.append(
            f"Kubernetes {params.version} has image volumes behind the feature gate ImageVolume, on API server and "
            "kubelets, and containerd 2.0 or CRI-O 1.31"
        )
    if params.flavor == "deployment" and params.gateway is None and params.canary.percent:
        lines.append("no gateway: a candidate is checked and then gets all requests at once")
    if params.api_key is None:
        lines.append("no key: whoever reaches the Service may ask")
    return lines
