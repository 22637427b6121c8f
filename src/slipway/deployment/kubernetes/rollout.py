"""What two flavors of Kubernetes do differently in a switch: a Deployment behind a Service, and KServe.

`beside` starts a release without requests (KServe: with the first share of the canary, since a route that begins at 0
drops connections later), `shift` gives it a share, `finish` all, `undo` takes it back, `retire` lets a release go that
serves no more: scaled to 0 and ready to come back.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.deployment.kubernetes.kserve_manifests import inference_service
from slipway.deployment.kubernetes.manifests import RELEASE, object_name, route, selector, service
from slipway.deployment.kubernetes.record import Rendered
from slipway.deployment.kubernetes.unrecorded import scale_live
from slipway.errors import EngineError

# Reasons of a waiting container after which waiting longer changes nothing
_HOPELESS = (
    "CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError",
    "CreateContainerError", "RunContainerError",
)  # fmt: skip


class Rollout(Protocol):
    """One flavor."""

    def serving(self) -> str | None:
        """The release that the cluster routes to; null before the first promotion."""

    def beside(self, candidate: Rendered, champion: Rendered | None) -> None:
        """Start the candidate."""

    def is_ready(self, candidate: Rendered) -> bool:
        """Whether its pods answer."""

    def shift(self, candidate: Rendered, champion: Rendered, percent: int) -> bool:
        """Give the candidate a share of the requests; false where this cluster cannot."""

    def finish(self, candidate: Rendered) -> None:
        """Give it all requests."""

    def undo(self, candidate: Rendered, champion: Rendered | None) -> None:
        """All requests to the champion, and the candidate's pods gone."""

    def retire(self, release: Rendered) -> None:
        """Let go of the pods of a release that gets no requests."""

    def stop(self, release: Rendered) -> None:
        """End a release's pods, the serving one's too; which one serves stays on record."""

    def resume(self, release: Rendered) -> None:
        """Bring the pods of the serving release back."""

    def missing(self, release: Rendered) -> list[str]:
        """Objects of the serving release and of the route to it that are gone, as `KIND NAME`."""

    def service_name(self, release: Rendered) -> str:
        """The Service at which this release alone answers."""


class DeploymentRollout:
    """Deployment, Service and PDB a release; the switch is the selector of the Service that clients use."""

    def __init__(self, api: KubernetesAPI, params: KubernetesConfig) -> None:
        self._api, self._params = api, params

    def serving(self) -> str | None:
        """See `Rollout.serving`."""
        stable = self._api.get("Service", self._params.name)
        return None if stable is None else stable["spec"].get("selector", {}).get(RELEASE)

    def beside(self, candidate: Rendered, champion: Rendered | None) -> None:  # noqa: ARG002 (KServe needs it)
        """See `Rollout.beside`."""
        for document in candidate.objects:
            self._api.apply(document)

    def is_ready(self, candidate: Rendered) -> bool:
        """See `Rollout.is_ready`."""
        deployment = self._api.get("Deployment", object_name(self._params, candidate.name)) or {}
        status, wanted = deployment.get("status", {}), deployment.get("spec", {}).get("replicas", 1)
        current = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 1)
        counts = [int(status.get(name, 0)) for name in ("readyReplicas", "updatedReplicas")]
        return bool(current) and min(counts) >= wanted

    def shift(self, candidate: Rendered, champion: Rendered, percent: int) -> bool:
        """See `Rollout.shift`."""
        if self._params.gateway is None:
            return False
        self._api.apply(route(self._params, {champion.name: 100 - percent, candidate.name: percent}))
        return True

    def finish(self, candidate: Rendered) -> None:
        """See `Rollout.finish`. The Service last: it is what says who serves."""
        if self._params.gateway:
            self._api.apply(route(self._params, {candidate.name: 100}))
        self._api.apply(service(self._params, self._params.name, candidate.name))

    def undo(self, candidate: Rendered, champion: Rendered | None) -> None:
        """See `Rollout.undo`."""
        if champion is not None:
            self.finish(champion)
            for document in champion.objects:  # it may have been on its way out
                self._api.apply(document)
        else:
            self._api.delete("Service", self._params.name)
            if self._params.gateway:
                self._api.delete("HTTPRoute", self._params.name)
        self.retire(candidate)

    def retire(self, release: Rendered) -> None:
        """See `Rollout.retire`."""
        if not release.objects:
            scale_live(self._api, self._params, release.name, 0)
        for document in release.objects:
            if document["kind"] == "Deployment":
                smaller = copy.deepcopy(document)
                smaller["spec"]["replicas"] = 0
                self._api.apply(smaller)

    def stop(self, release: Rendered) -> None:
        """See `Rollout.stop`."""
        self.retire(release)

    def resume(self, release: Rendered) -> None:
        """See `Rollout.resume`. The route too: it may be what is gone."""
        if not release.objects:
            scale_live(self._api, self._params, release.name, self._params.replicas)
        for document in release.objects:
            self._api.apply(document)
        self.finish(release)

    def missing(self, release: Rendered) -> list[str]:
        """See `Rollout.missing`."""
        routes = [("Service", self._params.name), *([("HTTPRoute", self._params.name)] if self._params.gateway else [])]
        return _missing(self._api, release, routes)

    def service_name(self, release: Rendered) -> str:
        """See `Rollout.service_name`."""
        return object_name(self._params, release.name)


class KServeRollout:
    """A ServingRuntime a release and one InferenceService, whose predictor's name says who serves."""

    def __init__(self, api: KubernetesAPI, params: KubernetesConfig) -> None:
        self._api, self._params = api, params

    def serving(self) -> str | None:
        """See `Rollout.serving`."""
        document = self._api.get("InferenceService", self._params.name)
        name = (document or {}).get("spec", {}).get("predictor", {}).get("name", "")
        return str(name).removeprefix("r") or None

    def beside(self, candidate: Rendered, champion: Rendered | None) -> None:
        """See `Rollout.beside`."""
        for document in candidate.objects:
            self._api.apply(document)
        first = (self._params.canary.percent or [1])[0]
        if champion is None:
            self._api.apply(inference_service(self._params, candidate.predictor))
        else:
            self._api.apply(inference_service(self._params, champion.predictor, candidate.predictor, first))

    def is_ready(self, candidate: Rendered) -> bool:
        """See `Rollout.is_ready`."""
        document = self._api.get("InferenceService", self._params.name) or {}
        status, name = document.get("status", {}), candidate.predictor["name"]
        canaries = {row.get("name"): row.get("ready", False) for row in status.get("canaryStatuses", [])}
        if document.get("spec", {}).get("predictor", {}).get("name") != name:
            return bool(canaries.get(name))
        return any(row.get("type") == "Ready" and row.get("status") == "True" for row in status.get("conditions", []))

    def shift(self, candidate: Rendered, champion: Rendered, percent: int) -> bool:
        """See `Rollout.shift`."""
        self._api.apply(inference_service(self._params, champion.predictor, candidate.predictor, percent))
        return True

    def finish(self, candidate: Rendered) -> None:
        """See `Rollout.finish`. The canary's name becomes the predictor's, which keeps its pods."""
        self._api.apply(inference_service(self._params, candidate.predictor))

    def undo(self, candidate: Rendered, champion: Rendered | None) -> None:  # noqa: ARG002 (its entry goes)
        """See `Rollout.undo`."""
        if champion is not None:
            self.finish(champion)
        else:
            self._api.delete("InferenceService", self._params.name)

    def retire(self, release: Rendered) -> None:
        """See `Rollout.retire`: its pods went with its entry."""

    def stop(self, release: Rendered) -> None:
        """See `Rollout.stop`. Others have no pods: KServe's annotation takes those of the whole service."""
        if self.serving() == release.name:
            self._api.apply(inference_service(self._params, release.predictor, stopped=True))

    def resume(self, release: Rendered) -> None:
        """See `Rollout.resume`."""
        for document in release.objects:
            self._api.apply(document)
        self._api.apply(inference_service(self._params, release.predictor))

    def missing(self, release: Rendered) -> list[str]:
        """See `Rollout.missing`."""
        return _missing(self._api, release, [("InferenceService", self._params.name)])

    def service_name(self, release: Rendered) -> str:
        """See `Rollout.service_name`: as KServe names a predictor's Service."""
        return f"{self._params.name}-{release.predictor['name']}-predictor"


def _missing(api: KubernetesAPI, release: Rendered, routes: Sequence[tuple[str, str]]) -> list[str]:
    own = [(document["kind"], document["metadata"]["name"]) for document in release.objects]
    return [f"{kind} {name}" for kind, name in [*own, *routes] if api.get(kind, name) is None]


def rollout_for(api: KubernetesAPI, params: KubernetesConfig) -> Rollout:
    """The flavor that the config names."""
    return KServeRollout(api, params) if params.flavor == "kserve" else DeploymentRollout(api, params)


def require_hope(api: KubernetesAPI, params: KubernetesConfig, release: str, restarts: int = 0) -> None:
    """Raises EngineError, with the end of its log, for a pod of a release that died or that will never start: nobody
    waits for a deadline then. `restarts`: of a container that are let pass."""
    for document in api.list("Pod", selector(params, release)):
        for status in document.get("status", {}).get("containerStatuses", []):
            if reason := _hopeless(status, restarts):
                pod, name = document["metadata"]["name"], status["name"]
                log = api.log(pod, name)
                raise EngineError(
                    f"pod {pod}",
                    f"{reason}. Last log lines:\n{log}",
                    "an engine that starts and stays",
                    f"`kubectl describe pod {pod}`",
                )


def _hopeless(status: Mapping[str, Any], restarts: int) -> str:
    waiting = status.get("state", {}).get("waiting", {})
    if status.get("restartCount", 0) > restarts:
        ended = status.get("lastState", {}).get("terminated", {})
        return f"died with exit code {ended.get('exitCode', '?')} ({ended.get('reason', 'no reason')})"
    if waiting.get("reason") in _HOPELESS:
        return f"{waiting['reason']}: {str(waiting.get('message', ''))[:500]}"
    return ""
