"""A cluster as a target (`target.TargetClient`): the agent's verbs, answered from here, since no agent stands there.

A verb's document and result are the agent's (`agent/verbs.py`), so that promotion, rollback, status and whatever else
asks a target need to know of no kind. Not answered: holds (there is no file for them), `boot` (the cluster does it),
and the bytes of a champion's engine, which are in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.releases import carried_index
from slipway.config.deploy import DeployConfig
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import BUNDLES, architecture_of, pack, ref_of, require_here
from slipway.deployment.bundle.signing import signer_for
from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.deployment.kubernetes.looks import status_document, versions_document
from slipway.deployment.kubernetes.pod import KubernetesRelease, start_seconds
from slipway.deployment.kubernetes.record import next_name
from slipway.deployment.kubernetes.registry_push import push
from slipway.deployment.kubernetes.start_stop import start_again, stop_all
from slipway.deployment.kubernetes.target import KubernetesTarget, KubernetesTransaction, render
from slipway.deployment.kubernetes.tunnel import LOOPBACK, tunnel
from slipway.deployment.start_document import measured_start
from slipway.engines.bundle import MODEL, read_plan
from slipway.engines.driver import ServePlan
from slipway.errors import ConfigError, ResourceError, StateError
from slipway.store.artifacts import Engine, SearchIndex

if TYPE_CHECKING:
    from slipway.deployment.target import Document, Note


class KubernetesClient:
    """One namespace's target for the time of a session; the lease is held from `begin` to `commit`, `abort` or the
    end."""

    def __init__(self, params: DeployConfig) -> None:
        if params.kubernetes is None:
            next_step = "layers.deploy=deploy/dgx-kubernetes shows one"
            raise ConfigError("deploy.kubernetes", "absent", "the cluster of deploy.kind=kubernetes", next_step)
        self._params, self._kubernetes = params, params.kubernetes
        self._api: KubernetesAPI | None = None
        self._held = ExitStack()
        self._opened: KubernetesTransaction | None = None
        self._locked = False
        self._still_held: Callable[[], None] = lambda: None

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises ConfigError for one that a cluster does not know; else as `KubernetesTarget`."""
        verbs: dict[str, Callable[[Document, Note], Document]] = {
            "abort": self._abort, "begin": self._begin, "commit": self._commit, "document": self._document,
            "gc": self._gc, "stage": self._stage, "start": self._start, "start_current": self._start_current,
            "status": self._status, "stop": self._stop, "switch": self._switch, "versions": self._versions,
        }  # fmt: skip
        if verb not in verbs:
            next_step = "kubectl has the rest: the objects are labelled app.kubernetes.io/instance"
            raise ConfigError("verb of a cluster", verb, f"one of {', '.join(verbs)}", next_step)
        return verbs[verb](document, note)

    def deliver(
        self,
        engine: Engine,
        documents: Mapping[str, str],
        model: str,
        note: Note,
        wait_s: float = 0.0,  # noqa: ARG002 (of the protocol: a registry is held by nobody)
        index: SearchIndex | None = None,
    ) -> Document:
        """Pack, sign and push; what `stage` renders from. Raises ConfigError, before anything is packed, for an engine
        whose files lie on another machine, one that asks for a key, and a plan that no pod can run; else as packing and
        `registry_push.push`."""
        require_here(engine, self._params.target)
        self._require_no_key()
        plan, store = read_plan(engine.path, here=False), engine.path.parents[1]
        arch = architecture_of(engine)
        render(KubernetesRelease("0000-00000000", "sha256:" + "0" * 64, plan, arch), self._kubernetes)
        packed = pack(
            engine, documents, signer_for(self._params.signing, store), OciLayout(store / BUNDLES),
            name=f"sha256-{ref_of(engine, index)}", model=model, architecture=arch, index=index, note=note,
        )  # fmt: skip
        digest = f"sha256:{packed.bundle.digest}"
        if self._kubernetes.claim:
            note(f"claim {self._kubernetes.claim} must hold the bundle's files in {digest.replace(':', '-')}/")
        else:
            push(packed, self._kubernetes.repository, note=note)
        start = measured_start(engine.path)
        return {"bundle": {"digest": digest, "plan": plan.model_dump(mode="json"), "arch": arch, "start_s": start}}

    def start_plan(self, bundle: Path) -> Document:  # noqa: ARG002 (of the protocol)
        """Empty: the manifests have it."""
        return {}

    def restart_plan(self, release: str) -> Document:  # noqa: ARG002 (of the protocol)
        """Empty: what was applied is kept in the cluster."""
        return {}

    @contextmanager
    def reach(self, endpoint: Mapping[str, Any]) -> Iterator[str]:
        """A local port that leads to a release's Service through the API server. Raises ConfigError where the engine
        asks for a key, which does not pass there."""
        self._require_no_key()
        with tunnel(self._reached(), str(endpoint["service"]), int(endpoint["port"])) as port:
            yield f"http://{LOOPBACK}:{port}/v1"

    def _require_no_key(self) -> None:
        """A candidate is asked through the API server, which takes the header of a key for its own."""
        if self._kubernetes.api_key is not None:
            next_step = "leave deploy.kubernetes.api_key out and let a gateway check keys"
            raise ConfigError(
                "deploy.kubernetes.api_key", "set", "an engine that can be asked before it serves", next_step
            )

    def close(self) -> None:
        """End what is open: undone before its record, finished from there on."""
        self._abort({}, lambda _: None)

    def _reached(self) -> KubernetesAPI:
        if self._api is None:
            self._api = KubernetesAPI(self._kubernetes)
        return self._api

    def _target(self, note: Note = lambda _: None) -> KubernetesTarget:
        from slipway.agent.changes import owner_here

        return KubernetesTarget(self._reached(), self._kubernetes, owner_here(), note)

    def _status(self, document: Document, note: Note) -> Document:  # noqa: ARG002
        address = f"http://{self._kubernetes.name}.{self._kubernetes.namespace}:{self._kubernetes.port}/v1"
        return status_document(self._target().status(), address)

    def _begin(self, document: Document, note: Note) -> Document:
        target = self._target(note)
        action, wait_s = str(document["action"]), float(document.get("wait_s", 300.0))
        self._still_held = self._held.enter_context(target.changing(action, wait_s))
        self._locked = True
        try:
            serving = target.releases.serving()
            digest = str(document.get("engine") or "")
            # of a rollback null: it leaves a release whose record is damaged too
            current = self._record(target, serving) if serving and digest else None
            history = target.record.history()  # raises now, not after the switch
            wanted = digest, str(document.get("index") or "")
            if current and digest and (current["digests"]["engine"], carried_index(current)) == wanted:
                return {"current": current, "new": None, "path": None}
            kept = target.record.releases()
            used = [*kept, *(switch.release for switch in history)]
            name = next_name(used, digest) if digest else str(document.get("release") or target.releases.previous())
            if not digest and name not in kept:
                known = ", ".join(kept)
                raise ResourceError(f"rollback to {name}", "it cannot come back", f"one of {known}", "name one of them")
            if not digest:
                self._record(target, name)  # a damaged one is the reason, and says so
            self._opened = target.begin(action, name, self._still_held)
            return {"current": current, "new": name, "path": self._path(name)}
        except BaseException:
            self._release()
            raise

    def _stage(self, document: Document, note: Note) -> Document:
        opened, bundle = self._transaction(), document["bundle"]
        name, target = opened.journal.release, self._target(note)
        plan, record = ServePlan.model_validate(bundle["plan"]), dict(document["release"])
        model = "engine" if plan.kind == "llama.cpp" else f"engine/{MODEL}"
        release = KubernetesRelease(
            name, bundle["digest"], plan, bundle["arch"], model=model, start_s=bundle["start_s"],
            digests=record["digests"],
        )  # fmt: skip
        record |= {"name": name, "path": self._path(name), "created": target.now(), "bundle": bundle["digest"]}
        record |= {"alias": plan.alias, "start_s": start_seconds(release)}
        opened.stage(render(release, self._kubernetes), record, document["documents"])
        return {"release": record}

    def _start(self, document: Document, note: Note) -> Document:  # noqa: ARG002
        opened, target = self._transaction(), self._target(note)
        name = opened.journal.release
        record = self._record(target, name)
        opened.start(self._kubernetes.start_timeout_s + float(record["start_s"]))
        service = target.rollout.service_name(target.record.release(name))
        port = self._kubernetes.port
        return {"service": service, "port": port, "model": record["alias"], "url": f"http://{service}:{port}/v1"}

    def _switch(self, document: Document, note: Note) -> Document:
        opened, target = self._transaction(), self._target(note)
        name = opened.journal.release
        record = {**self._record(target, name), "smoke": document.get("smoke", [])}
        target.record.describe(name, record)
        opened.switch()
        return {"drained": {"seconds": 0.0, "cut": None}}  # pods drain by themselves, in their grace period

    def _commit(self, document: Document, note: Note) -> Document:
        opened, target = self._transaction(), self._target(note)
        opened.commit()
        self._opened = None
        self._release()
        name = opened.journal.release
        pruned = (
            target.prune(self._params.keep_releases, document.get("spare", ()))
            if opened.journal.action == "promote"
            else []
        )
        return {"release": self._record(target, name), "pruned": pruned}

    def _abort(self, document: Document, note: Note) -> Document:  # noqa: ARG002
        opened, self._opened = self._opened, None
        try:
            if opened is not None:
                opened.abort()
        finally:
            self._release()
        return {}

    def _document(self, document: Document, note: Note) -> Document:  # noqa: ARG002
        name, wanted = str(document["release"]), str(document["document"])
        text = self._target().record.texts(name).get(wanted)
        if text is None and not document.get("optional"):
            next_step = "promote its engine again; the bundle in the registry has all of them"
            raise StateError(f"document of release {name}", f"no {wanted}", "a document that is kept here", next_step)
        return {"text": text}

    def _versions(self, document: Document, note: Note) -> Document:  # noqa: ARG002
        return versions_document(self._target().status())

    def _start_current(self, document: Document, note: Note) -> Document:
        target = self._target(note)
        with ExitStack() as own:
            if not self._locked:
                own.enter_context(self._lock(target, "start", document, tolerant=True))
            name = target.releases.serving()
            if name is None:
                next_step = "`slipway promote` makes one"
                raise ResourceError(f"target {self._params.target}", "nothing was promoted yet", "a release", next_step)
            started = start_again(target, name, self._kubernetes.start_timeout_s, self._still_held)
        return {"release": self._record(target, name), "url": self._status({}, note)["url"], "started": started}

    def _stop(self, document: Document, note: Note) -> Document:
        target = self._target(note)
        with self._lock(target, "stop", document, tolerant=True):
            stopped, damaged = stop_all(target)
        return {"stopped": stopped, "error": damaged.to_json() if damaged else None}

    def _gc(self, document: Document, note: Note) -> Document:
        target = self._target(note)
        with self._lock(target, "gc", document):
            keep = int(document.get("keep", self._params.keep_releases))
            return {"pruned": target.prune(keep, dry_run=bool(document.get("dry_run")))}

    @contextmanager
    def _lock(
        self, target: KubernetesTarget, action: str, document: Document, *, tolerant: bool = False
    ) -> Iterator[None]:
        with target.changing(action, float(document.get("wait_s", 300.0)), tolerant=tolerant):
            yield

    def _release(self) -> None:
        self._locked = False
        self._still_held = lambda: None
        self._held.close()

    def _transaction(self) -> KubernetesTransaction:
        if self._opened is None:
            raise ConfigError("transaction", "none is open", "`begin` first", "run the command again")
        return self._opened

    def _path(self, name: str) -> str:
        return f"kubernetes://{self._kubernetes.namespace}/{self._kubernetes.name}/{name}"

    def _record(self, target: KubernetesTarget, name: str) -> Document:
        return target.releases.description(name)
