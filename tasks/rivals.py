"""Which candidate a verdict is about, and what a candidate must beat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from slipway.config.load import Config
from slipway.deployment import state
from slipway.deployment.candidate import (
    Candidate,
    candidate_of,
    named_verdict,
    names_a_version,
    newest_candidate,
    verdict_on,
)
from slipway.deployment.decision.routing import routed
from slipway.ops.chain.earlier_data import dataset_of
from slipway.report.since_champion import groups_of, rows_since
from slipway.store.artifacts import Dataset, Engine, Evaluation, Verdict
from tasks import prefect_ui
from tasks.parameters import CONF
from tasks.run import Run
from tasks.tracking.registry import engine_of_version


@task(name="judged candidate", task_run_name="judged candidate", cache_policy=NO_CACHE)
def judged_candidate(config: Config, verdict: str | None) -> Candidate:
    """What the verdict of this directory or digest, the last one on this version or alias of the registered model, or
    the store's newest, is about. Raises SlipwayError when there is none or an ancestor is gone. Its config names a
    target, also where `deploy.target` was auto."""
    candidate = candidate_of(_verdict(verdict, config), config) if verdict else newest_candidate(config)
    return replace(candidate, config=routed(candidate.config, CONF, candidate.adapter.summary))


def _verdict(named: str, config: Config) -> Verdict:
    if not names_a_version(named):
        return named_verdict(named, config)
    thing = f"version {named} of {config.line}"
    return verdict_on(engine_of_version(config, named), config, thing)


@task(name="rival", task_run_name="rival", cache_policy=NO_CACHE)
def rival(run: Run, candidate: Engine) -> Engine | None:
    """The engine that the candidate has to beat: the champion of its line, or, when the candidate serves already, the
    one before it."""
    release = state.rival(candidate, run.config.line, run.config.deploy)
    return release.engine(run.store.root) if release else None


@task(name="best release", task_run_name="best release", cache_policy=NO_CACHE)
def best_release(run: Run, candidate: Engine) -> Engine | None:
    """The best release of the run's line, which the candidate is held to as well; None where the rival is it."""
    best = state.best_of_line(candidate, run.config.line, run.config.deploy)
    return best.engine(run.store.root) if best else None


@task(name="since the champion", task_run_name="since the champion", cache_policy=NO_CACHE)
def since_champion(run: Run, candidate: Engine, data: Dataset, quality: Mapping[str, Evaluation]) -> None:
    """Candidate and champion on the fixed test set and on new rows, as a table of the run; nothing without a champion
    or where the store no longer has its data."""
    release = state.rival(candidate, run.config.line, run.config.deploy) if "champion" in quality else None
    before = dataset_of(run.store.root, release.digests.get("dataset", "")) if release else None
    if before is None:
        return
    rows = rows_since(quality["candidate"], quality["champion"], groups_of(data, before))
    if rows:
        prefect_ui.table("since-the-champion", rows, "Candidate against champion: the fixed test set, and new rows")
        run.tracker.text("since_champion.json", json.dumps(rows, indent=1) + "\n")
