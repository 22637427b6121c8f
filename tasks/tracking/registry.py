"""The registered model: its versions by the engine's digest, its card, and the alias that names a target's champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.load import Config
from slipway.deployment.decision.explanation import outcome
from slipway.deployment.decision.record import Decision
from slipway.deployment.pending_alias import PendingAlias, pending_aliases, settle, write_down
from slipway.errors import ResourceError, StateError
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

SHOWN = 20  # versions, and aliases, that an error lists


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


def engine_of_version(config: Config, named: str) -> str:
    """The engine digest of a version of the config's line: by its number, or by an alias, with or without `@`.

    Raises StateError, listing versions and aliases, where there is none; ResourceError when MLflow does not answer.
    """
    require_tracking(config.tracking)
    client, line = library().MlflowClient(config.tracking.uri.get_secret_value()), config.line
    with failures_named(config.tracking.uri.link()):
        try:
            aliases = {str(k): str(v) for k, v in client.get_registered_model(line).aliases.items()}
        except library().exceptions.MlflowException as err:
            if err.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            aliases = {}
        versions = {str(v.version): dict(v.tags) for v in client.search_model_versions(f"name = '{line}'")}
    version = named if named in versions else aliases.get(named.removeprefix("@"), "")
    digest = str(versions.get(version, {}).get("digest", ""))
    if not digest:
        numbers = ", ".join(sorted(versions, key=int)[-SHOWN:]) or "none"
        names = ", ".join(f"{alias} ({number})" for alias, number in sorted(aliases.items())[:SHOWN]) or "none"
        expected = f"versions {numbers}; aliases {names}"
        value = f"{named} has no engine's digest" if version else f"{named}: no version, alias or path"
        next_step = "name one of those, a verdict's directory or its first digits"
        raise StateError(f"registered model {line}", value, expected, next_step)
    return digest


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


def catch_up(config: Config) -> list[tuple[PendingAlias, str]]:
    """Set what earlier switches left pending in this store; each with the version that its alias names now, empty where
    MLflow knows none of this engine: then there is nothing to wait for."""
    done = []
    with failures_named(config.tracking.uri.link()):
        for row in pending_aliases(Path(config.store.root)):
            done.append((row, set_champion(config, row.engine, row.target, row.line)))
            settle(Path(config.store.root), row.target, row.engine)
    return done


def record_decision(tracker: Tracker, decided: Decision) -> None:
    """Tags of the engine's version: the decision's digest, what came of it, and who approved."""
    name, client = tracker.config.line, tracker.client
    version = version_of(client, name, decided.engine)
    approver = decided.approval.by if decided.approval else ""
    tags = {"decision": decided.digest, "decision_outcome": outcome(decided), "decision_run": tracker.parent}
    for key, value in {**tags, **({"approver": approver} if approver else {})}.items():
        if version:
            client.set_model_version_tag(name, version, key, mask(value))
