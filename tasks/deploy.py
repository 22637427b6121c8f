"""Deploy: the gate decides, the target switches, the alias follows."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.states import Completed, State

from slipway.config.deploy import DeployConfig
from slipway.deployment import promotion as deploy
from slipway.deployment.releases import Release
from slipway.evaluation.gate_rules import require_pass
from slipway.store.artifacts import Dataset, Engine, Verdict
from tasks import tracking
from tasks.announce import announce
from tasks.stage import MINUTE, Run, stage_task


@stage_task("promote", timeout_s=30 * MINUTE)
def promote(
    run: Run, engine: Engine, verdict: Verdict, data: Dataset, card: str, params: DeployConfig, *, by_hand: bool = False
) -> State[Release]:
    """Raises GateError, naming the rules, unless the verdict passed; the champion keeps serving. An engine that somebody
    rolled back from is held: a schedule must not undo a person's rollback."""
    with run.tracker.stage("promote", {"engine": engine}, params), run.bars.stage("promote") as line:
        require_pass(verdict)
        if not by_hand and deploy.was_withdrawn(params, engine) and (kept := deploy.champion(params)):
            why = f"held: this engine was rolled back; {kept.name} keeps serving; `slipway promote` brings it back"
            line.say(why)
            announce(run, "promote", kept.model_copy(update={"reused": True}), why)
            return Completed(name="Held", message=why, data=kept)
        note = line.say if run.bars.live else get_run_logger().info
        release = deploy.promote(
            engine, verdict, data, card, params, model=run.config.model.name, runs=run.ids(), note=note
        )
        tracking.set_champion(run.config, engine.digest)
        why = f"{release.name} serves this engine already" if release.reused else f"{release.name} serves"
        line.say(why)
    announce(run, "promote", release, why)
    return Completed(name="Cached" if release.reused else "Completed", message=why, data=release)
