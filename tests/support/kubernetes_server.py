"""An API server for tests: not Kubernetes, but a real conversation with it as far as a promotion goes.

One file because its parts share one store under one lock. What is real: HTTP, paths, status codes and Status objects;
every object is checked by Kubernetes' or the CRD's own schema; versions and conflicts of PUT; server-side apply with an
owner for every leaf field and 409 naming field and manager; pods are processes, started with their container's command,
probed by its startup probe, restarted when they die; a Service answers through the proxy path from its ready pods.
What is not: etcd, watches, admission and CEL, scheduling, quotas, images, Secrets, lists merged by key, endpoints that
lag, KServe's and a Gateway's controllers (an InferenceService's status is computed here from pods of its runtimes).
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.kubernetes_schema import problems

Document = dict[str, Any]
KINDS = {
    "configmaps": "ConfigMap", "pods": "Pod", "services": "Service", "deployments": "Deployment",
    "poddisruptionbudgets": "PodDisruptionBudget", "leases": "Lease", "httproutes": "HTTPRoute",
    "servingruntimes": "ServingRuntime", "inferenceservices": "InferenceService",
}  # fmt: skip
PATH = re.compile(r"/(?:api|apis/[^/]+)/v\w+/namespaces/([^/]+)/(\w+)(?:/([^/]+))?(?:/(log|proxy)(/.*)?)?$")
TICK_S = 0.05
_ADDRESSES = itertools.count(2)


@dataclass
class Pod:
    """A process that stands for a pod."""

    name: str
    owner: str
    template: Document
    address: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    restarts: int = 0
    code: int = 0
    log_of: list[str] = field(default_factory=list)


def _new_address() -> str:
    """One that no pod of this process has had, nor one of another test process: the port of an engine is fixed, and a
    pod that was removed lives for a moment."""
    at = next(_ADDRESSES)
    return f"127.{1 + os.getpid() % 253}.{1 + at // 250}.{1 + at % 250}"


class Cluster:
    """The store, its controllers, and the pods."""

    def __init__(self, folder: Path, version: str = "1.35") -> None:
        self.folder, self.version = folder, version
        self.objects: dict[tuple[str, str], Document] = {}
        self.requests: list[str] = []
        self.nodes: list[Document] = []
        self.pods: dict[str, Pod] = {}
        self._leaving: list[Pod] = []
        self.fail: Callable[[str, str], int] = lambda method, path: 0
        self._lock, self._version = threading.RLock(), 0
        self._checked: dict[str, list[str]] = {}
        self._ended = threading.Event()
        self._controller = threading.Thread(target=self._control, daemon=True)
        self._controller.start()

    def close(self) -> None:
        """End every pod."""
        self._ended.set()
        self._controller.join()
        for pod in (*self.pods.values(), *self._leaving):
            self._kill(pod)

    def lose(self, kind: str, name: str) -> None:
        """Delete an object as somebody with kubectl does, between two steps of the controllers."""
        with self._lock:
            del self.objects[kind, name]

    def handle(self, method: str, url: str, content: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append(f"{method} {parts.path}")
        if status := self.fail(method, parts.path):
            return _status(status, "made to fail")
        if parts.path == "/version":
            major, minor = self.version.split(".")
            return 200, json.dumps({"major": major, "minor": minor, "gitVersion": f"v{self.version}.0"}).encode()
        if parts.path == "/api/v1/nodes":
            return 200, json.dumps({"kind": "NodeList", "items": self.nodes}).encode()
        match = PATH.fullmatch(parts.path)
        if match is None or match[2] not in KINDS:
            return _status(404, "the server could not find the requested resource")
        kind, name, below = KINDS[match[2]], match[3], match[4]
        if below == "proxy":
            return self._proxied(method, str(name), match[5] or "/", body)
        with self._lock:
            if below == "log":
                return self._log(str(name), query)
            if kind == "Pod":
                return 200, json.dumps({"items": self._pod_objects(query)}).encode()
            document = yaml.safe_load(body) if body and method != "DELETE" else {}
            return self._stored(method, kind, name, query, content, document)

    def _stored(
        self, method: str, kind: str, name: str | None, query: dict[str, str], content: str, document: Document
    ) -> tuple[int, bytes]:
        if name is None and method == "GET":
            items = [d for (of, _), d in sorted(self.objects.items()) if of == kind and _chosen(d, query)]
            return 200, json.dumps({"items": items}).encode()
        key = (kind, name or document["metadata"]["name"])
        stored = self.objects.get(key)
        if method == "GET":
            return (200, json.dumps(stored).encode()) if stored else _status(404, f"{kind} {name} not found")
        if method == "DELETE":
            return (200, json.dumps(self.objects.pop(key)).encode()) if stored else _status(404, "not found")
        if method == "PATCH" and content.startswith("application/apply-patch"):
            return self._applied(key, stored, query["fieldManager"], document)
        if method == "POST" and stored:
            return _status(409, f"{kind} {key[1]} already exists")
        if method == "PUT":
            if stored is None:
                return _status(404, "not found")
            if document["metadata"].get("resourceVersion") != stored["metadata"]["resourceVersion"]:
                return _status(409, "the object has been modified; please apply your changes to the latest version")
        owners = dict.fromkeys(_leaves(document), query["fieldManager"])
        return self._store(key, stored, document, owners)

    def _applied(
        self, key: tuple[str, str], stored: Document | None, manager: str, document: Document
    ) -> tuple[int, bytes]:
        """Server-side apply: a leaf that another manager owns with another value is a conflict; leaves that this
        manager owned and leaves out now are removed."""
        owners: dict[str, str] = dict((stored or {}).get("owners", {}))
        leaves = _leaves(document)
        before = _leaves(stored or {})
        conflicts = [
            {
                "field": "." + path.replace("|", "."),
                "message": f'conflict with "{owners[path]}"',
                "reason": "FieldManagerConflict",
            }
            for path, value in leaves.items()
            if owners.get(path, manager) != manager and before.get(path) != value
        ]
        if conflicts:
            return _status(409, f"Apply failed with {len(conflicts)} conflicts", conflicts)
        if (stored or {}).get("immutable") and {k: v for k, v in before.items() if k.startswith("data")} != {
            k: v for k, v in leaves.items() if k.startswith("data")
        }:
            return _status(422, f"{key[0]} {key[1]} is invalid: data: Forbidden: field is immutable")
        kept = {path: value for path, value in before.items() if owners.get(path, "") not in ("", manager)}
        merged = _document({**kept, **leaves})
        return self._store(key, stored, merged, {**{p: owners[p] for p in kept}, **dict.fromkeys(leaves, manager)})

    def _store(
        self, key: tuple[str, str], stored: Document | None, document: Document, owners: dict[str, str]
    ) -> tuple[int, bytes]:
        plain = {name: value for name, value in document.items() if name not in ("owners", "status")}
        plain["metadata"] = {k: v for k, v in plain["metadata"].items() if k not in ("generation", "resourceVersion")}
        if faults := self._faults(plain):
            return _status(422, f"{key[0]} {key[1]} is invalid: {'; '.join(faults)}")
        old = {} if stored is None else stored
        self._version += 1
        changed = plain.get("spec") != old.get("spec")
        generation = old.get("metadata", {}).get("generation", 0) + (1 if changed else 0)
        own = {**plain["metadata"], "resourceVersion": str(self._version), "generation": generation}
        self.objects[key] = {**plain, "metadata": own, "status": old.get("status", {}), "owners": owners}
        return 200, json.dumps(self.objects[key]).encode()

    def _faults(self, document: Document) -> list[str]:
        """What the schemas say, asked once for what they cannot tell apart: times, versions, texts in a ConfigMap."""
        shape = {**document, "metadata": {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}}
        if document["kind"] == "ConfigMap":
            shape["data"] = sorted(document.get("data", {}))
        text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", json.dumps(shape, sort_keys=True))
        if text not in self._checked:
            self._checked[text] = problems(document, self.version)
        return self._checked[text]

    def _control(self) -> None:
        while not self._ended.wait(TICK_S):
            with self._lock:
                for (kind, name), document in list(self.objects.items()):
                    if kind == "Deployment":
                        self._reconcile(name, document["spec"]["replicas"], document["spec"]["template"])
                        self._report(name, document)
                    elif kind == "InferenceService":
                        self._serve(name, document)
                wanted = {name for kind, name in self.objects if kind == "Deployment"} | self._predictors()
                for pod in [pod for pod in self.pods.values() if pod.owner not in wanted]:
                    self._remove(pod)
                alive = list(self.pods.values())
            for pod in alive:
                self._look_after(pod)

    def _reconcile(self, owner: str, replicas: int, template: Document) -> None:
        own = [pod for pod in self.pods.values() if pod.owner == owner]
        for pod in own[replicas:]:
            self._remove(pod)
        for number in range(len(own), replicas):
            name = f"{owner}-{number}"
            self.pods[name] = Pod(name, owner, template, _new_address(), self.folder / f"{name}.log")

    def _report(self, owner: str, document: Document) -> None:
        own = [pod for pod in self.pods.values() if pod.owner == owner]
        document["status"] = {
            "observedGeneration": document["metadata"]["generation"],
            "replicas": len(own),
            "updatedReplicas": len(own),
            "readyReplicas": sum(pod.ready for pod in own),
        }

    def _predictors(self) -> set[str]:
        names = set()
        for (kind, name), document in self.objects.items():
            if kind == "InferenceService":
                for one in [
                    document["spec"]["predictor"],
                    *(c["predictor"] for c in document["spec"].get("canary", [])),
                ]:
                    names.add(f"{name}-{one['name']}-predictor")
        return names

    def _serve(self, name: str, document: Document) -> None:
        """KServe's controller as far as a test needs it: pods of each predictor's runtime, and the status."""
        ready = {}
        canaries = [entry["predictor"] for entry in document["spec"].get("canary", [])]
        for one in [document["spec"]["predictor"], *canaries]:
            runtime = self.objects.get(("ServingRuntime", one["model"]["runtime"]))
            owner = f"{name}-{one['name']}-predictor"
            stopped = document["metadata"].get("annotations", {}).get("serving.kserve.io/stop") == "true"
            if runtime:
                template = {"metadata": {"labels": one["labels"]}, "spec": runtime["spec"]}
                self._reconcile(owner, 0 if stopped else one["minReplicas"], template)
            own = [pod for pod in self.pods.values() if pod.owner == owner]
            ready[one["name"]] = bool(own) and all(pod.ready for pod in own)
        first = document["spec"]["predictor"]["name"]
        document["status"] = {
            "conditions": [{"type": "Ready", "status": "True" if ready[first] else "False"}],
            "canaryStatuses": [{"name": one["name"], "ready": ready[one["name"]]} for one in canaries],
        }

    def _look_after(self, pod: Pod) -> None:
        container = pod.template["spec"]["containers"][0]
        if pod.process is not None and pod.process.poll() is not None:
            pod.code, pod.ready, pod.process = pod.process.returncode, False, None
            pod.restarts += 1
            pod.log_of = pod.log.read_text(errors="replace").splitlines()
        if pod.process is None:
            if pod.restarts > 5:  # CrashLoopBackOff
                return
            variables = {row["name"]: row["value"] for row in container["env"] if "value" in row}
            with pod.log.open("wb") as log:
                pod.process = subprocess.Popen(
                    container["command"], env={**os.environ, **variables, "POD_IP": pod.address}, stdout=log, stderr=log
                )
        probe = container["startupProbe"]["httpGet"]["path"]
        pod.ready = pod.process is not None and _get(pod.address, container["ports"][0]["containerPort"], probe) == 200

    def _remove(self, pod: Pod) -> None:
        del self.pods[pod.name]
        pod.ready = False
        self._leaving.append(pod)  # a timer of this thread ends with the tests' process, before its time perhaps
        # endpoints forget a pod before it ends: preStop sleeps for that long
        threading.Timer(0.5, self._kill, (pod,)).start()

    def _kill(self, pod: Pod) -> None:
        if pod.process is not None:
            pod.process.kill()
            pod.process.wait()

    def _pod_objects(self, query: dict[str, str]) -> list[Document]:
        documents = []
        for pod in self.pods.values():
            waiting = {"waiting": {"reason": "CrashLoopBackOff" if pod.restarts else "ContainerCreating"}}
            status = {
                "name": pod.template["spec"]["containers"][0]["name"],
                "restartCount": pod.restarts,
                "state": {"running": {}} if pod.process else waiting,
                "lastState": {"terminated": {"exitCode": pod.code, "reason": "Error"}} if pod.restarts else {},
            }
            metadata = {"name": pod.name, "labels": pod.template["metadata"]["labels"]}
            documents.append({"metadata": metadata, "status": {"podIP": pod.address, "containerStatuses": [status]}})
        return [document for document in documents if _chosen(document, query)]

    def _log(self, name: str, query: dict[str, str]) -> tuple[int, bytes]:
        if name not in self.pods:
            return _status(404, f"pods {name} not found")
        return 200, "\n".join(self.pods[name].log_of[-int(query["tailLines"]) :]).encode()

    def _proxied(self, method: str, name: str, path: str, body: bytes) -> tuple[int, bytes]:
        """What a Service answers, from one of its ready pods; `http:NAME:PORT`."""
        _, service, port = name.split(":")
        with self._lock:
            chosen = [pod for pod in self.pods.values() if pod.ready and self._selects(service, pod)]
            target = chosen[len(self.requests) % len(chosen)] if chosen else None
        if target is None:
            return _status(503, f'no endpoints available for service "{service}"')
        connection = http.client.HTTPConnection(target.address, int(port), timeout=120)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError as err:
            return _status(502, str(err))
        finally:
            connection.close()

    def _selects(self, service: str, pod: Pod) -> bool:
        stored = self.objects.get(("Service", service))
        if stored is None:
            return pod.owner == service  # KServe names the Service as the Deployment
        labels = pod.template["metadata"]["labels"]
        return bool(stored["spec"]["selector"].items() <= labels.items())


def _get(host: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _chosen(document: Document, query: dict[str, str]) -> bool:
    wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
    return bool(wanted.items() <= document["metadata"].get("labels", {}).items())


def _leaves(document: Any, path: str = "") -> dict[str, Any]:
    """`spec|replicas` -> value of every leaf; lists are leaves. Without what the server itself writes."""
    if not isinstance(document, dict) or (path and not document):
        return {path: document}
    out: dict[str, Any] = {}
    for key, value in document.items():
        if f"{path}|{key}" not in ("|status", "|owners", "metadata|resourceVersion", "metadata|generation"):
            out |= _leaves(value, f"{path}|{key}" if path else key)
    return out


def _document(leaves: dict[str, Any]) -> Document:
    document: Document = {}
    for path, value in leaves.items():
        *names, last = path.split("|")
        place = document
        for name in names:
            place = place.setdefault(name, {})
        place[last] = value
    return document


def _status(code: int, message: str, causes: list[dict[str, str]] | None = None) -> tuple[int, bytes]:
    document = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return code, json.dumps({**document, "details": {"causes": causes or []}}).encode()


@contextmanager
def kubernetes_server(folder: Path, version: str = "1.35") -> Iterator[tuple[Cluster, Path]]:
    """A running server and a kubeconfig for it."""
    cluster = Cluster(folder, version)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorized = self.headers.get("Authorization") == "Bearer lab"
            status, answer = (
                cluster.handle(self.command, self.path, self.headers.get("Content-Type") or "", body)
                if authorized
                else _status(401, "Unauthorized")
            )
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def log_message(self, *words: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    config = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "lab", "user": {"token": "lab"}}],
    }
    config.write_text(yaml.safe_dump(document))
    try:
        yield cluster, config
    finally:
        server.shutdown()
        server.server_close()
        cluster.close()


def wait_until(what: Callable[[], Any], seconds: float = 120) -> Any:
    """`what()` as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
