"""The registered model: its versions by the engine's digest, its card, and the alias that names a target's champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.load import Config
from slipway.deployment.decision.explanation import outcome
from slipway.deployment.decision.record import Decision
from slipway.deployment.pending_alias import PendingAlias, pending_aliases, settle, write_down
from slipway.errors import ResourceError
from slipway.ops.alias_mirror import alias_of
from slipway.store.artifacts import Artifact, Engine, Verdict
from slipway.system.redact import mask
from tasks.health import require_tracking
from tasks.provenance import ROOT
from tasks.tracking.client import Client, failures_named, library
from tasks.tracking.payload import description as describe
from tasks.tracking.payload import numbers

if TYPE_CHECKING:
    from tasks.tracking.run import Tracker


def external_model(tracker: Tracker, artifact: Artifact, run_id: str) -> str:
    """The MLflow model id that stands for these bytes; made once per digest."""
    mlflow = library()
    models = tracker.client.search_logged_models(
        [tracker.experiment], f"tags.digest = '{artifact.digest}'", max_results=1
    )
    if models:
        return str(models[0].model_id)
    tags = {"uri": mask(tracker.uri_of(artifact)), "digest": artifact.digest, "kind": artifact.kind}
    params = {k: str(v) for k, v in numbers(artifact.summary).items()}
    name = f"{artifact.kind}-{artifact.digest[:12]}"
    model = mlflow.create_external_model(
        name=name,
        source_run_id=run_id,
        tags=tags,
        params=params,
        model_type=artifact.kind,
        experiment_id=tracker.experiment,
    )
    return str(model.model_id)


def register(tracker: Tracker, engine: Engine, verdict: Verdict, card: str) -> str:
    """The registered model's version of this engine: found by digest, else made; its description is the model card."""
    name, client = tracker.config.line, tracker.client
    try:
        client.create_registered_model(name)
    except library().exceptions.MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = version_of(client, name, engine.digest)
    outcome = str(verdict.read_json("verdict.json")["outcome"])
    if not version:
        model_id = tracker.models.get(engine.digest) or external_model(tracker, engine, tracker.parent)
        tags = {"digest": engine.digest, "uri": mask(tracker.uri_of(engine)), "gate": outcome}
        made = client.create_model_version(
            name, f"models:/{model_id}", tracker.parent, tags, description=describe(mask(card)), model_id=model_id
        )
        return str(made.version)
    client.set_model_version_tag(name, version, "gate", outcome)
    client.update_model_version(
        name, version, description=describe(mask(card))
    )  # judged again: the card tells the last verdict
    return version


def version_of(client: Client, name: str, digest: str) -> str:
    """The version of the registered model that has this engine digest; empty when there is none."""
    versions = client.search_model_versions(f"name = '{name}' and tags.digest = '{digest}'", max_results=1)
    return str(versions[0].version) if versions else ""


def set_champion(config: Config, engine_digest: str, target: str = "", line: str = "") -> str:
    """Point the alias of the target (default: the config's) at the version of this engine; return the version, empty
    when MLflow knows none."""
    require_tracking(config.tracking)
    client = library().MlflowClient(config.tracking.uri.get_secret_value())
    name = line or config.line
    version = version_of(client, name, engine_digest)
    if version:
        client.set_registered_model_alias(name, alias_of(ROOT, target or config.deploy.target), version)
    return version


def follow_pointer(config: Config, engine_digest: str) -> str:
    """`set_champion` after a switch, which stands whatever MLflow says: when it is away, the alias is written down as
    pending. The version; empty when there is none or it is pending."""
    store = Path(config.store.root)
    try:
        with failures_named(config.tracking.uri.link()):
            version = set_champion(config, engine_digest)
    except ResourceError:
        write_down(store, config.deploy.target, config.line, engine_digest)
        return ""
    settle(store, config.deploy.target, engine_digest)
    return version


def catch_up(config: Config) -> list[PendingAlias]:
    """Set what earlier switches left pending in this store; what was set."""
    pending = pending_aliases(Path(config.store.root))
    for row in pending:
        set_champion(config, row.engine, row.target, row.line)
        settle(Path(config.store.root), row.target, row.engine)
    return pending


def record_decision(tracker: Tracker, decided: Decision) -> None:
    """Tags of the engine's version: the decision's digest, what came of it, and who approved."""
    name, client = tracker.config.line, tracker.client
    version = version_of(client, name, decided.engine)
    approver = decided.approval.by if decided.approval else ""
    tags = {"decision": decided.digest, "decision_outcome": outcome(decided), "decision_run": tracker.parent}
    for key, value in {**tags, **({"approver": approver} if approver else {})}.items():
        if version:
            client.set_model_version_tag(name, version, key, mask(value))
