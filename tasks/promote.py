"""Promote: the gate decides, the target switches, the alias follows; and backwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger
from prefect.states import Completed, State

from slipway.agent.records import utc_now
from slipway.cli.progress import StageLine
from slipway.config.deploy import DeployConfig
from slipway.deployment import promotion, state
from slipway.deployment.bundle.signing import installed_signer
from slipway.deployment.decision.explanation import markdown, outcome
from slipway.deployment.decision.incumbent import require_unchanged
from slipway.deployment.decision.record import FILE as DECISION
from slipway.deployment.decision.record import Decision
from slipway.deployment.decision.refusal import kept_because, require_decided
from slipway.deployment.decision.signature import documents_of
from slipway.deployment.engine_row import require_row
from slipway.deployment.releases import Release
from slipway.deployment.target import Note
from slipway.ops.message import rolled_back
from slipway.runners.lease import Priority, Wish, lease_folder, leased
from slipway.store.artifacts import Dataset, Engine, Verdict
from tasks import prefect_ui
from tasks.accelerator import accelerator_slot
from tasks.notify import notify
from tasks.run import Run, StageRow
from tasks.stage_task import MINUTE, stage_task
from tasks.tracking import registry

CHECKS = "checks.json"  # what was asked at the target before the switch


@stage_task("promote", timeout_s=30 * MINUTE, longer_s=lambda run: run.config.deploy.canary.longest_s)
def promote(
    run: Run,
    engine: Engine,
    verdict: Verdict,
    data: Dataset,
    documents: Mapping[str, str],
    decided: Decision,
    params: DeployConfig,
) -> State[Release]:
    """Make the engine the serving release where the decision says so; else the state `Kept` says why not.

    Raises GateError for a failed gate, and for an inconclusive one that nobody approved; ResourceError when somebody
    asked by hand for what a hold forbids. The champion keeps serving.
    """
    with run.tracker.stage("promote", {"engine": engine}, params), run.bars.stage("promote") as line:
        publish_decision(run, decided)
        require_decided(decided, verdict)
        if not decided.promotes:
            return _keep(run, line, decided)
        require_row(engine, run.config.serving, params)
        if (signer := installed_signer(params.signing, Path(run.config.store.root))) is None:
            get_run_logger().warning("the decision is not signed: model-signing is not installed (extra `sign`)")
        with _in_turn(run, line, params):
            release = promotion.promote(
                engine,
                verdict,
                data,
                {**documents, **documents_of(decided, signer)},
                params,
                model=run.config.line,
                runs=run.ids(),
                asked=decided.asked,
                approved=decided.approval is not None,
                recheck=lambda: require_unchanged(decided, engine, verdict, params),
                note=_note(run, line),
            )
        run.tracker.text(CHECKS, json.dumps(release.checks, indent=1) + "\n")
        registry.follow_pointer(run.config, engine.digest)
        why = f"{release.name} serves this engine already" if release.reused else f"{release.name} serves"
        _announce(run, line, "promote", release, why)
    return Completed(name="Cached" if release.reused else "Completed", message=why, data=release)


@contextmanager
def _in_turn(run: Run, line: StageLine, params: DeployConfig) -> Iterator[None]:
    """This machine's lease, first of all wishes, for an engine that starts on it; another target has its own agent."""
    if params.kind != "local":
        yield
        return
    wish = Wish(f"promotion to {params.target}", Priority.SERVING)
    with leased(lease_folder(Path(run.config.store.cache)), wish, line.say), accelerator_slot():
        yield


def publish_decision(run: Run, decided: Decision) -> None:
    """The decision as a table in the Prefect UI, as a file and tags of the run and of the model's version in MLflow."""
    prefect_ui.markdown("decision", markdown(decided), f"{outcome(decided)}: {decided.ruling.reason}")
    run.tracker.text(DECISION, decided.text())
    registry.record_decision(run.tracker, decided)


def _keep(run: Run, line: StageLine, decided: Decision) -> State[Release]:
    """What serves stays, and everybody is told why: terminal, state, summary."""
    champion = state.champion(run.config.deploy)
    why = kept_because(decided, champion.name if champion else None, state.status(run.config.deploy).healthy)
    run.summary.kept = why
    if champion:
        _announce(run, line, "promote", champion.model_copy(update={"reused": True}), why)
    return Completed(name="Kept", message=why, data=champion)


@stage_task("rollback", timeout_s=30 * MINUTE)
def rollback(run: Run, params: DeployConfig) -> State[Release]:
    """Make the previous release serve again, and the alias name it. Raises ResourceError when there is no previous
    release."""
    with run.bars.stage("rollback") as line:
        with _in_turn(run, line, params):
            release = promotion.rollback(params, note=_note(run, line))
        registry.follow_pointer(run.config, release.digests["engine"])
        why = f"{release.name} serves again"
        if run.config.notify.to:
            notify(run.config, rolled_back(params.target, release.name, utc_now()))
        _announce(run, line, "rollback", release, why)
    return Completed(message=why, data=release)


def _note(run: Run, line: StageLine) -> Note:
    """Where a promotion's steps are shown: the live line, or the log where there is none."""
    return line.say if run.bars.live else get_run_logger().info


def _announce(run: Run, line: StageLine, action: str, release: Release, why: str) -> None:
    """Where the target serves now: on the terminal, in the summary, as a link in the UI; and the action's row in the
    run's table."""
    line.say(why)
    url = state.status(run.config.deploy).url or ""
    run.summary.endpoint, run.summary.links["endpoint"] = url, url
    prefect_ui.link("endpoint", url, f"endpoint of {release.name}")
    run.summary.stages.append(StageRow(action, release.reused, why, 0.0, 0, release.digests["engine"]))
