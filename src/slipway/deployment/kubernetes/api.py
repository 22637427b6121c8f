"""The conversation with a Kubernetes API server: objects as plain mappings, applied by the server, errors by name.

Objects are applied server-side under one field manager and never by force: what somebody else manages (an autoscaler
the replicas, a person with kubectl a limit) is a conflict that is named, not overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.errors import ConfigError, ResourceError

MANAGER = "slipway"
ANSWER_S = 600  # of an engine
TIMEOUT_S = 30  # the client takes no float: it would wait for ever
Manifest = dict[str, Any]
# kind -> path of its API group and version, plural
KINDS = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "HTTPRoute": ("/apis/gateway.networking.k8s.io/v1", "httproutes"),
    "ServingRuntime": ("/apis/serving.kserve.io/v1alpha1", "servingruntimes"),
    "InferenceService": ("/apis/serving.kserve.io/v1beta1", "inferenceservices"),
}
_CONTENT = {"PATCH": "application/apply-patch+yaml"}  # JSON is YAML


class ChangedError(Exception):
    """An object is another version than the one that was to be replaced, or is there already."""


@dataclass(frozen=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: bytes

    def document(self) -> Manifest:
        """The body as a JSON object; `{"message": ...}` for anything else."""
        try:
            document = json.loads(self.body)
        except ValueError:
            document = None
        return document if isinstance(document, dict) else {"message": self.body[:500].decode(errors="replace")}


class KubernetesAPI:
    """One namespace of one cluster."""

    def __init__(self, params: KubernetesConfig) -> None:
        """Raises ConfigError for a kubeconfig that cannot be used, ResourceError without the client library."""
        self.namespace = params.namespace
        self._client = _client(params)

    def get(self, kind: str, name: str) -> Manifest | None:
        """An object; null where there is none. Raises as every call: ResourceError when the server is not reached or
        does not let us, ConfigError for what it refuses."""
        reply = self._call("GET", self._path(kind, name))
        return None if reply.status == 404 else self._checked(reply, f"{kind} {name}")

    def list(self, kind: str, labels: Mapping[str, str]) -> list[Manifest]:
        """Objects that have all these labels, by name; empty for a kind that the cluster does not know."""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))}
        reply = self._call("GET", self._path(kind), query)
        if reply.status == 404:
            return []
        items: list[Manifest] = self._checked(reply, f"{kind} of {query['labelSelector']}").get("items", [])
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def nodes(self) -> Sequence[Manifest]:
        """The cluster's nodes. Raises ResourceError where we may not list them: they belong to no namespace."""
        items: Sequence[Manifest] = self._checked(self._call("GET", "/api/v1/nodes"), "nodes").get("items", [])
        return items

    def server_version(self) -> str:
        """`1.35`: the API server's, MAJOR.MINOR; managed clusters write `35+`."""
        document = self._checked(self._call("GET", "/version"), "version")
        return f"{document.get('major', '?')}.{str(document.get('minor', '?')).rstrip('+')}"

    def apply(self, manifest: Manifest) -> Manifest:
        """Make an object what the manifest says, server-side; fields that the manifest leaves out are others' business.

        Raises ConfigError naming fields and managers on a conflict, and for a manifest that the server refuses.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        reply = self._call("PATCH", self._path(kind, name), query, manifest)
        if reply.status == 409:
            raise _conflict(f"{kind} {name}", reply.document())
        return self._checked(reply, f"{kind} {name}")

    def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object if it is still the version that the manifest was read as; make it where the manifest has no
        version. Raises ChangedError when somebody was faster."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if metadata.get("resourceVersion"):
            reply = self._call("PUT", self._path(kind, metadata["name"]), {"fieldManager": MANAGER}, manifest)
        else:
            reply = self._call("POST", self._path(kind), {"fieldManager": MANAGER}, manifest)
        if reply.status in (404, 409):
            raise ChangedError(f"{kind} {metadata['name']}")
        return self._checked(reply, f"{kind} {metadata['name']}")

    def delete(self, kind: str, name: str) -> None:
        """Delete an object with what belongs to it, in the background; nothing where there is none."""
        reply = self._call("DELETE", self._path(kind, name), {"propagationPolicy": "Background"})
        if reply.status != 404:
            self._checked(reply, f"{kind} {name}")

    def log(self, pod: str, container: str, lines: int = 12) -> str:
        """The last lines that a pod's container printed, of the attempt before where it was restarted; empty when that
        cannot be asked."""
        path = f"{self._path('Pod', pod)}/log"
        for previous in ("true", "false"):
            query = {"container": container, "tailLines": str(lines), "previous": previous}
            reply = self._call("GET", path, query)
            if reply.status == 200 and reply.body:
                return reply.body[-8000:].decode(errors="replace")
        return ""

    def service_path(self, name: str, port: int, path: str) -> str:
        """Path of the API server behind which a Service answers: no port of the cluster need be open to us."""
        return f"{self._path('Service', f'http:{name}:{port}')}/proxy{path}"

    def ask(self, name: str, port: int, path: str, document: Manifest | None = None) -> Reply:
        """What a Service answers to a GET, or to a POST of a JSON document."""
        method = "GET" if document is None else "POST"
        return self._call(method, self.service_path(name, port, path), {}, document, ANSWER_S)

    def _path(self, kind: str, name: str = "") -> str:
        group, plural = KINDS[kind]
        return f"{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        timeout_s: int = TIMEOUT_S,
    ) -> Reply:
        """Raises ResourceError when the server is not reached, or does not know or let us."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": _CONTENT.get(method, "application/json")}
        try:
            answer = self._client.call_api(
                path, method, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
                _request_timeout=timeout_s,
            )  # fmt: skip
        except ApiException as err:
            return self._allowed(Reply(int(err.status or 0), _bytes(err.body)), method, path)
        except (HTTPError, OSError) as err:
            reason = str(getattr(err, "reason", None) or err)
            next_step = "see that the cluster runs and that deploy.kubernetes.context names it"
            raise ResourceError("Kubernetes API server", reason[:500], "an answer", next_step) from err
        return Reply(int(answer.status), _bytes(answer.data))

    def _allowed(self, reply: Reply, method: str, path: str) -> Reply:
        if reply.status in (401, 403) and reply.document().get("kind") == "Status":  # an engine's own has none
            message = str(reply.document().get("message", ""))[:500]
            next_step = "grant the role of infra/dgx/rbac.yaml in this namespace, or use another context"
            raise ResourceError(f"Kubernetes: {method} {path}", message or str(reply.status), "permission", next_step)
        return reply

    def _checked(self, reply: Reply, thing: str) -> Manifest:
        document = reply.document()
        if 200 <= reply.status < 300:
            return document
        message = str(document.get("message", ""))[:1000] or f"status {reply.status}"
        if reply.status >= 500 or reply.status == 429:
            next_step = "run again: what was begun is resumed or undone"
            raise ResourceError(f"Kubernetes: {thing}", message, "an answer", next_step)
        expected = "what this cluster takes"
        next_step = "see deploy.kubernetes.version, and that the cluster knows this kind"
        raise ConfigError(f"Kubernetes: {thing}", message, expected, next_step)


def _client(params: KubernetesConfig) -> Any:
    try:
        from kubernetes import config
        from kubernetes.config import ConfigException
        from yaml import YAMLError
    except ImportError:
        next_step = "pip install 'slipway[kubernetes]'"
        raise ResourceError("target kubernetes", "no Python package kubernetes", "its client", next_step) from None
    file = str(Path(params.kubeconfig).expanduser()) if params.kubeconfig else None
    try:
        return config.new_client_from_config(config_file=file, context=params.context)
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as err:
        where = file or "KUBECONFIG or ~/.kube/config"
        raise ConfigError(
            f"kubeconfig {where}", str(err)[:500], "a context that can be used", "`kubectl config get-contexts`"
        ) from err


def _conflict(thing: str, document: Manifest) -> ConfigError:
    """Fields and managers of a server-side apply that somebody else's fields stand against."""
    causes = document.get("details", {}).get("causes", [])
    shown = [f"{cause.get('field', '?')} ({cause.get('message', '')})" for cause in causes[:10]]
    value = "; ".join(shown) or str(document.get("message", "conflict"))[:500]
    next_step = (
        "let that manager go of the field, as by `kubectl apply --server-side --force-conflicts`, or leave it to it"
    )
    return ConfigError(f"Kubernetes: {thing}", value, f"fields that {MANAGER} manages", next_step)


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else b""
