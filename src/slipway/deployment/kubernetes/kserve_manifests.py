"""A release on KServe: a ServingRuntime with the engine's container, an InferenceService with the bundle.

KServe appends an InferenceService's arguments to its runtime's, so each release brings a runtime of its own and no
runtime of the cluster adds words to a command that was tested. The bundle is `oci+native://`, an image volume: the
modelcar of `oci://` starts a shell in the model's image, and a bundle has none. A candidate is an entry of `canary`
under its own name; promoting it makes that name the predictor's, which keeps its pods (KServe 0.20, mode Standard).
"""

from __future__ import annotations

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.manifests import digest_annotations, labels, metadata, object_name
from slipway.deployment.kubernetes.pod import KubernetesRelease, Manifest, container, own_volumes, pod
from slipway.errors import ConfigError

CONTAINER = "kserve-container"  # the one that KServe merges a model's fields into
FORMAT = "slipway"
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}
STOPPED = {"serving.kserve.io/stop": "true"}  # KServe removes the pods and keeps the InferenceService


def serving_runtime(release: KubernetesRelease, params: KubernetesConfig) -> Manifest:
    """The runtime of one release: image by digest, command, probes, limits. Raises ConfigError as
    `kubernetes_pod.container`."""
    name = object_name(params, release.name)
    engine = container(release, params, CONTAINER, mounts_bundle=False)
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {**metadata(params, name, release.name), **digest_annotations(release)},
        "spec": {
            "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v1"],
            "containers": [engine],
            "volumes": own_volumes(release, params, name),
        },
    }


def inference_service(
    params: KubernetesConfig,
    serving: Manifest,
    candidate: Manifest | None = None,
    percent: int = 0,
    *,
    stopped: bool = False,
) -> Manifest:
    """The service that clients use: the serving release, and a candidate with its share of the requests; both as
    `predictor` renders them. `stopped`: without pods.

    Raises ConfigError for a share outside 1 to 99: a route of weight 0 drops connections when it gets weight.
    """
    spec: Manifest = {"predictor": serving}
    if candidate is not None:
        if not 1 <= percent <= 99:
            raise ConfigError("share of the candidate", percent, "1 to 99 percent", "give deploy.kubernetes.canary")
        entry = {key: value for key, value in candidate.items() if key != "maxReplicas"}  # a canary is not scaled
        spec["canary"] = [{"predictor": entry, "trafficPercent": percent}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            **metadata(params, params.name, serving["name"].removeprefix("r")),
            "annotations": STANDARD | (STOPPED if stopped else {}),
        },
        "spec": spec,
    }


def predictor(release: KubernetesRelease, params: KubernetesConfig) -> Manifest:
    """One release as a predictor: its runtime and bundle by digest, what its pods are besides their container."""
    rest = pod(release, params, object_name(params, release.name))
    del rest["containers"], rest["volumes"]  # the runtime's
    return {
        "name": predictor_name(release.name),
        "minReplicas": params.replicas,
        "maxReplicas": params.replicas,
        "labels": labels(params, release.name),
        **rest,
        "model": {
            "name": CONTAINER,  # a canary's schema asks for it
            "modelFormat": {"name": FORMAT},
            "runtime": object_name(params, release.name),
            "storageUri": f"oci+native://{params.repository}@{release.digest}",
        },
    }


def predictor_name(release: str) -> str:
    """KServe's name of a release's predictor, which has to begin with a letter: `r0007-3fa9c1d2`."""
    return f"r{release}"
