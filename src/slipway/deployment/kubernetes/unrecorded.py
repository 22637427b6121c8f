"""The serving release when nothing that was kept of it is there any more: what its own objects in the cluster say.

It can be asked, ended, and replaced; it cannot come back once it was left, so that its objects go then.
"""

from __future__ import annotations

from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import ChangedError, KubernetesAPI
from slipway.deployment.kubernetes.kserve_manifests import predictor_name
from slipway.deployment.kubernetes.manifests import object_name, selector
from slipway.deployment.kubernetes.pod import Manifest
from slipway.deployment.kubernetes.record import Rendered
from slipway.errors import ResourceError

_KINDS = {
    "deployment": ("Deployment", "Service", "PodDisruptionBudget", "ConfigMap"),
    "kserve": ("ServingRuntime", "ConfigMap"),
}
_HEALTH = "/health"  # of every engine that Slipway renders, where the release's own probe is gone too
_DIGEST = "slipway.digest/"


def live_release(api: KubernetesAPI, params: KubernetesConfig, name: str) -> Rendered:
    """A release without objects of its own: none can be applied again. Its predictor is the cluster's."""
    predictor: Manifest = {"name": predictor_name(name)}
    if params.flavor == "kserve":
        service = api.get("InferenceService", params.name) or {}
        serving = service.get("spec", {}).get("predictor", {})
        predictor = serving if serving.get("name") == predictor["name"] else predictor
    return Rendered(name, (), predictor, _health(_main(api, params, name)), params.port)


def live_description(api: KubernetesAPI, params: KubernetesConfig, name: str) -> dict[str, Any]:
    """A record out of a release's objects: of no known line and asked for by nobody, so that no schedule replaces it by
    itself. The engine's digest is the release's first 8 digits where its objects are gone too."""
    notes = _main(api, params, name).get("metadata", {}).get("annotations", {})
    digests = {key.removeprefix(_DIGEST): value for key, value in notes.items() if key.startswith(_DIGEST)}
    blank = dict.fromkeys(("path", "model", "created"), "")
    engine = {"engine": name.rpartition("-")[2]}
    return {"name": name, **blank, "digests": engine | digests, "outcome": "not on record"}


def scale_live(api: KubernetesAPI, params: KubernetesConfig, name: str, replicas: int) -> None:
    """Give a release's Deployment so many pods; nothing where there is none. Raises ResourceError when somebody else
    changed it at that moment."""
    document = api.get("Deployment", object_name(params, name))
    if document is None:
        return
    document["spec"]["replicas"] = replicas
    try:
        api.replace(document)
    except ChangedError as err:
        raise ResourceError(f"{err}", "changed meanwhile", "one who changes it", "run again") from err


def remove_live(api: KubernetesAPI, params: KubernetesConfig, name: str) -> None:
    """Delete every object of a release; what clients use stays, whoever it names."""
    for kind in _KINDS[params.flavor]:
        for item in api.list(kind, selector(params, name)):
            if item["metadata"]["name"] != params.name:
                api.delete(kind, item["metadata"]["name"])


def _main(api: KubernetesAPI, params: KubernetesConfig, name: str) -> Manifest:
    """The object that has a release's container: a Deployment, or KServe's runtime; empty where it is gone."""
    return api.get(_KINDS[params.flavor][0], object_name(params, name)) or {}


def _health(document: Manifest) -> str:
    """The path that says ready, out of the startup probe."""
    spec = document.get("spec", {})
    containers = spec.get("template", {}).get("spec", spec).get("containers", [])
    probes = [one.get("startupProbe", {}).get("httpGet", {}).get("path") for one in containers]
    return next((str(path) for path in probes if path), _HEALTH)
