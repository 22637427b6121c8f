"""Promote: the gate decides, the target switches, the alias follows; and backwards. What a candidate must beat, and
which one a verdict is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from slipway.cli.progress import StageLine
from slipway.config.deploy import DeployConfig
from slipway.config.load import Config
from slipway.deployment import promotion, state
from slipway.deployment.bundle.signing import signer_for
from slipway.deployment.candidate import Candidate, candidate_of, named_verdict, newest_candidate
from slipway.deployment.decision.explanation import markdown, outcome
from slipway.deployment.decision.incumbent import require_unchanged
from slipway.deployment.decision.record import FILE as DECISION
from slipway.deployment.decision.record import Decision
from slipway.deployment.decision.routing import routed
from slipway.deployment.decision.signature import FILE as SIGNATURE
from slipway.deployment.decision.signature import signature_of
from slipway.deployment.engine_row import require_row
from slipway.deployment.releases import Release
from slipway.deployment.target import Note
from slipway.errors import GateError, ResourceError
from slipway.evaluation.gate_rules import require_pass, tie_reason
from slipway.store.artifacts import Dataset, Engine, Verdict
from tasks import prefect_ui
from tasks.parameters import CONF
from tasks.run import Run, StageRow
from tasks.stage_task import MINUTE, stage_task
from tasks.tracking import registry

WAYS = {  # what a person was refused by -> what would be taken, and what to do
    "hold": ("a target that nobody holds", "`slipway unhold`, or wait for whoever holds it"),
    "rolled back": (
        "a verdict by its name",
        "`slipway promote VERDICT`; `slipway start` starts what the pointer names",
    ),
}


@task(name="judged candidate", task_run_name="judged candidate", cache_policy=NO_CACHE)
def judged_candidate(config: Config, verdict: str | None) -> Candidate:
    """What the verdict of this directory or digest, or the store's newest, is about. Raises SlipwayError when there is
    none or an ancestor is gone. Its config names a target, also where `deploy.target` was auto."""
    candidate = candidate_of(named_verdict(verdict, config), config) if verdict else newest_candidate(config)
    return replace(candidate, config=routed(candidate.config, CONF, candidate.adapter.summary))


@task(name="rival", task_run_name="rival", cache_policy=NO_CACHE)
def rival(candidate: Engine, params: DeployConfig) -> Engine | None:
    """The engine that the candidate has to beat: the champion, or, when the candidate serves already, the one before
    it."""
    release = state.rival(candidate, params)
    return release.engine if release else None


@task(name="best release", task_run_name="best release", cache_policy=NO_CACHE)
def best_release(run: Run, candidate: Engine) -> Engine | None:
    """The best release of the run's line, which the candidate is held to as well; None where the rival is it."""
    best = state.best_of_line(candidate, run.config.line, run.config.deploy)
    return best.engine if best else None


def canary_s(run: Run) -> float:
    """Seconds that a promotion's canary may take; 0 without one."""
    canary = run.config.deploy.canary
    return 0.0 if canary.way == "none" else canary.for_s + canary.prompts * canary.answer_s * (canary.way == "replay")


@stage_task("promote", timeout_s=30 * MINUTE, longer_s=canary_s)
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
        release = promotion.promote(
            engine,
            verdict,
            data,
            {**documents, DECISION: decided.text(), **_signed(run, decided)},
            params,
            model=run.config.line,
            runs=run.ids(),
            asked=decided.asked,
            approved=decided.approval is not None,
            recheck=lambda: require_unchanged(decided, engine, verdict, params),
            note=_note(run, line),
        )
        registry.follow_pointer(run.config, engine.digest)
        why = f"{release.name} serves this engine already" if release.reused else f"{release.name} serves"
        _announce(run, line, "promote", release, why)
    return Completed(name="Cached" if release.reused else "Completed", message=why, data=release)


def _signed(run: Run, decided: Decision) -> dict[str, str]:
    """The decision's signature as a document of the release; none, and a warning, where the packages of signing are not
    installed."""
    if find_spec("model_signing") is None:
        get_run_logger().warning("the decision is not signed: model-signing is not installed (extra `sign`)")
        return {}
    signer = signer_for(run.config.deploy.signing, Path(run.config.store.root))
    return {SIGNATURE: signature_of(decided, signer)}


def publish_decision(run: Run, decided: Decision) -> None:
    """The decision as a table in the Prefect UI, as a file and tags of the run and of the model's version in MLflow."""
    prefect_ui.markdown("decision", markdown(decided), f"{outcome(decided)}: {decided.ruling.reason}")
    run.tracker.text(DECISION, decided.text())
    registry.record_decision(run.tracker, decided)


def require_decided(decided: Decision, verdict: Verdict) -> None:
    """Raise where nothing was promoted and somebody waits for it: the gate's errors, and a hold against a person. A
    run whose candidate ties with the champion has done its work: it ends well, and the champion stays."""
    if decided.gate.outcome == "inconclusive" and decided.ruling.action == "ask" and decided.approval is None:
        next_step = f"`slipway promote {verdict.path} --approve REASON` if a person accepts it; or add test items"
        raise GateError("gate", f"inconclusive: {_open_rules(decided)}", "every rule to pass", next_step)
    if decided.gate.outcome == "fail" and (decided.asked.by_hand or not tie_reason(decided.gate.rules)):
        require_pass(verdict)
    if decided.asked.by_hand and decided.ruling.action == "keep":
        expected, next_step = WAYS.get(decided.ruling.rule, WAYS["hold"])
        raise ResourceError(f"target {decided.target}", decided.ruling.reason, expected, next_step)


def _open_rules(decided: Decision) -> str:
    return "; ".join(str(rule["reason"]) for rule in decided.gate.rules if rule.get("outcome") != "pass")


def _keep(run: Run, line: StageLine, decided: Decision) -> State[Release]:
    """What serves stays, and everybody is told why: terminal, state, summary."""
    champion = state.champion(run.config.deploy)
    name = champion.name if champion else "nothing"
    serves = "serves" if state.status(run.config.deploy).healthy else "is the champion and does not run"
    reason = decided.approval.reason if decided.approval else tie_reason(decided.gate.rules) or decided.ruling.reason
    why = f"{outcome(decided)}: {reason}; {name} {serves}"
    if decided.ruling.action == "ask" and decided.approval is None:
        why += "; `slipway promote` is a person's word for it"
    run.summary.kept = why
    if champion:
        _announce(run, line, "promote", champion.model_copy(update={"reused": True}), why)
    return Completed(name="Kept", message=why, data=champion)


@stage_task("rollback", timeout_s=30 * MINUTE)
def rollback(run: Run, params: DeployConfig) -> State[Release]:
    """Make the previous release serve again, and the alias name it. Raises ResourceError when there is no previous
    release."""
    with run.bars.stage("rollback") as line:
        release = promotion.rollback(params, note=_note(run, line))
        registry.follow_pointer(run.config, release.digests["engine"])
        why = f"{release.name} serves again"
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
