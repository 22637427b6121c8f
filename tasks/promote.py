"""Promote: the gate decides, the target switches, the alias follows; and backwards. What a candidate must beat, and
which one a verdict is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from slipway.cli.progress import StageLine
from slipway.config.deploy import DeployConfig
from slipway.config.load import Config
from slipway.deployment import promotion, state
from slipway.deployment.candidate import Candidate, candidate_of, newest_candidate, read_verdict
from slipway.deployment.releases import Release
from slipway.deployment.target import Note
from slipway.evaluation.gate_rules import require_pass
from slipway.store.artifacts import Dataset, Engine, Verdict
from tasks import prefect_ui
from tasks.run import Run, StageRow
from tasks.stage_task import MINUTE, stage_task
from tasks.tracking import registry


@task(name="judged candidate", task_run_name="judged candidate", cache_policy=NO_CACHE)
def judged_candidate(config: Config, verdict: str | None) -> Candidate:
    """What the verdict in this directory, or the store's newest, is about. Raises SlipwayError when there is none or an
    ancestor is gone."""
    return candidate_of(read_verdict(Path(verdict)), config) if verdict else newest_candidate(config)


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


@stage_task("promote", timeout_s=30 * MINUTE)
def promote(
    run: Run,
    engine: Engine,
    verdict: Verdict,
    data: Dataset,
    documents: Mapping[str, str],
    params: DeployConfig,
    *,
    by_hand: bool = False,
) -> State[Release]:
    """Make the engine the serving release. Raises GateError, naming the rules, unless the verdict passed; the champion
    keeps serving.

    An engine that somebody rolled back from is held unless `by_hand`: a schedule must not undo a person's rollback.
    """
    with run.tracker.stage("promote", {"engine": engine}, params), run.bars.stage("promote") as line:
        require_pass(verdict)
        champion = None if by_hand else state.champion(params)
        if champion and state.was_withdrawn(params, engine):
            serves = "keeps serving" if state.status(params).healthy else "is the champion and does not run"
            why = f"held: this engine was rolled back; {champion.name} {serves}; `slipway promote` brings it back"
            _announce(run, line, "promote", champion.model_copy(update={"reused": True}), why)
            return Completed(name="Held", message=why, data=champion)
        release = promotion.promote(
            engine, verdict, data, documents, params, model=run.config.line, runs=run.ids(), note=_note(run, line)
        )
        registry.set_champion(run.config, engine.digest)
        why = f"{release.name} serves this engine already" if release.reused else f"{release.name} serves"
        _announce(run, line, "promote", release, why)
    return Completed(name="Cached" if release.reused else "Completed", message=why, data=release)


@stage_task("rollback", timeout_s=30 * MINUTE)
def rollback(run: Run, params: DeployConfig) -> State[Release]:
    """Make the previous release serve again, and the alias name it. Raises ResourceError when there is no previous
    release."""
    with run.bars.stage("rollback") as line:
        release = promotion.rollback(params, note=_note(run, line))
        registry.set_champion(run.config, release.digests["engine"])
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
