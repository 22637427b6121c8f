"""Rollback: the previous release serves again, and the alias goes back with it."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.states import Completed, State

from slipway.config.deploy import DeployConfig
from slipway.deployment import promotion as deploy
from slipway.deployment.releases import Release
from tasks import tracking
from tasks.announce import announce
from tasks.stage import MINUTE, Run, stage_task


@stage_task("rollback", timeout_s=30 * MINUTE)
def rollback(run: Run, params: DeployConfig) -> State[Release]:
    """Raises ResourceError when there is no previous release."""
    with run.bars.stage("rollback") as line:
        release = deploy.rollback(params, note=line.say if run.bars.live else get_run_logger().info)
        tracking.set_champion(run.config, release.digests["engine"])
    announce(run, "rollback", release, f"{release.name} serves again")
    return Completed(message=f"{release.name} serves again", data=release)
