"""An engine onto a Kubernetes cluster: checked against the row, packed, pushed, asked beside the champion, switched to.

What a promotion on a machine does through the agent is here: bundle and signature, the registry in place of rsync, the
API server in place of a session. The evaluation's recorded answers are asked of the candidate before it gets all
requests; a gateway's canary follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from slipway.config.deploy import DeployConfig
from slipway.config.kubernetes import KubernetesConfig
from slipway.config.target import TargetConfig
from slipway.deployment.bundle_release import BUNDLES, pack
from slipway.deployment.candidate_probe import probe_candidate, rounding_in
from slipway.deployment.compatibility import require_compatible
from slipway.deployment.kubernetes_api import KubernetesAPI
from slipway.deployment.kubernetes_pod import KubernetesRelease
from slipway.deployment.kubernetes_rollout import rollout_for
from slipway.deployment.kubernetes_target import Ask, KubernetesTarget, render
from slipway.deployment.kubernetes_tunnel import LOOPBACK, tunnel
from slipway.deployment.oci_layout import OciLayout
from slipway.deployment.registry_push import push
from slipway.deployment.signing import signer_for
from slipway.deployment.start_document import measured_start
from slipway.engines.bundle import MODEL, read_plan
from slipway.engines.warm_cache import read_manifest
from slipway.errors import ConfigError, EngineError, StateError
from slipway.evaluation.recorded_answers import PROBE, parse_rows
from slipway.store.artifacts import Engine

Note = Callable[[str], None]


@dataclass(frozen=True)
class Shipment:
    """What is promoted: an engine, the release's documents by name, the registered name, digests by artifact's kind."""

    engine: Engine
    documents: Mapping[str, str]
    model: str
    digests: Mapping[str, str]


def promote(
    shipment: Shipment, deploy: DeployConfig, kubernetes: KubernetesConfig, serving: TargetConfig, store: Path, *,
    owner: str, note: Note = lambda _: None,
) -> KubernetesRelease:  # fmt: skip
    """Make the engine the serving release of `kubernetes` and return it. `serving`: the row of the cluster's nodes.

    Raises ConfigError for an engine of another GPU, naming what runs again, and for what the cluster refuses;
    EngineError when the candidate does not start or does not answer as it did when it was evaluated; ResourceError when
    registry or cluster are not reached or busy. The champion then serves as before.
    """
    engine = shipment.engine
    plan = read_plan(engine.path, here=False)
    caches = read_manifest(engine.path)
    source = source_row(engine, serving)
    require_compatible(plan, source, serving, deploy.target, caches.key if caches else None)
    api = KubernetesAPI(kubernetes)
    target = KubernetesTarget(api, kubernetes, owner, note)
    name = next_name([*target.status().releases, *(s.release for s in target.status().history)], engine.digest)
    draft = KubernetesRelease(name, "sha256:" + "0" * 64, plan, serving.arch)
    render(draft, kubernetes)  # what the cluster cannot run is refused before anything is packed
    packed = pack(
        engine, shipment.documents, signer_for(deploy.signing, store), OciLayout(store / BUNDLES), name=name,
        model=shipment.model, architecture=serving.arch, keep=deploy.keep_releases, note=note,
    )  # fmt: skip
    digest = f"sha256:{packed.bundle.digest}"
    if kubernetes.claim:
        note(f"claim {kubernetes.claim} must hold the bundle's files in {digest.replace(':', '-')}/")
    else:
        push(packed, kubernetes.repository, note=note)
    release = KubernetesRelease(
        name, digest, plan, serving.arch, model=f"engine/{MODEL}" if plan.kind != "llama.cpp" else "engine",
        start_s=measured_start(engine.path), digests=shipment.digests,
    )  # fmt: skip
    target.promote(release, lambda _: check(api, kubernetes, release, shipment, note))
    target.prune(deploy.keep_releases)
    return release


def check(
    api: KubernetesAPI, params: KubernetesConfig, release: KubernetesRelease, shipment: Shipment, note: Note
) -> None:
    """Ask the candidate what the evaluated engine was asked. Raises EngineError for answers that it did not give; where
    the engine asks for a key, which the API server keeps for itself, only its health was seen, and the note says so."""
    if params.api_key is not None:
        note("the engine asks for a key, which does not pass the API server: its answers were not compared")
        return
    service = rollout_for(api, params).service_name(render(release, params))
    with tunnel(api, service, params.port) as port:
        url = f"http://{LOOPBACK}:{port}/v1"
        if PROBE in shipment.documents:
            rows = parse_rows(shipment.documents[PROBE], f"recorded answers of {release.name}")
            probe_candidate(
                url, release.plan.alias, rows, rounding=rounding_in(shipment.engine.path), timeout_s=600, note=note
            )
            return
        note("no answers were recorded when this engine was evaluated: it is asked one question")
        document = {"model": release.plan.alias, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
        reply = api.ask(service, params.port, "/v1/chat/completions", document)
        if reply.status != 200:
            value = f"{reply.status}: {reply.body[:500].decode(errors='replace')}"
            raise EngineError(f"candidate {release.name}", value, "an answer", "read its pod's log")


def rollback(name: str | None, kubernetes: KubernetesConfig, *, owner: str, note: Note = lambda _: None) -> str:
    """Bring back the release before the serving one, or the one named; its name. Raises as `KubernetesTarget.rollback`.
    It was checked when it was promoted: now it must answer its health."""

    def healthy(_: Ask) -> None:
        """Its pods answered already, or the switch would not have come here."""

    return KubernetesTarget(KubernetesAPI(kubernetes), kubernetes, owner, note).rollback(name, healthy)


def require_kubernetes(deploy: DeployConfig) -> KubernetesConfig:
    """The section of a target of kind kubernetes. Raises ConfigError where there is none."""
    if deploy.kubernetes is None:
        next_step = "layers.deploy=deploy/dgx-kubernetes shows one"
        raise ConfigError("deploy.kubernetes", "absent", "the cluster of deploy.kind=kubernetes", next_step)
    return deploy.kubernetes


def source_row(engine: Engine, serving: TargetConfig) -> TargetConfig:
    """The row that an engine was made for, as its stage recorded it; `serving` for one that recorded none. Raises
    StateError for a record that cannot be read."""
    recorded = engine.manifest["provenance"].get("params", {}).get("serving")
    if not isinstance(recorded, dict):
        return serving
    try:
        return TargetConfig.model_validate(recorded)
    except ValidationError as err:
        message = str(err.errors()[0]["msg"])
        raise StateError(f"manifest of {engine.path}, serving", message, "a row of conf/targets", "run again") from err


def next_name(names: list[str], digest: str) -> str:
    """The number after every number ever used on the target, and 8 digits of the engine's digest."""
    used = [int(name.partition("-")[0]) for name in names]
    return f"{max(used, default=0) + 1:04d}-{digest[:8]}"
