"""Tell where the target serves now."""

from __future__ import annotations

from slipway.deployment import promotion as deploy
from slipway.deployment.releases import Release
from tasks import ui
from tasks.stage import Record, Run


def announce(run: Run, action: str, release: Release, why: str) -> None:
    """The endpoint in the summary and the UI, and the action's line in the run's table."""
    url = deploy.status(run.config.deploy).url or ""
    run.summary.endpoint, run.summary.links["endpoint"] = url, url
    ui.link("endpoint", url, f"endpoint of {release.name}")
    run.summary.stages.append(Record(action, release.reused, why, 0.0, 0, release.digests["engine"]))
