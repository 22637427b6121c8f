"""Of several runs that events asked for in quick succession, the newest works; the others say which one that is.

Three data versions published in a second make three flow runs, which wait for one another. The older ones would train
on data that are no longer the newest, and replace one another's releases.
"""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run

EVENT = "AUTOMATION"  # Prefect's word for who created a run that an event asked for
GIVEN_UP = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED, StateType.CANCELLING)
NEWEST = 50  # runs looked at


def superseded() -> str:
    """Why the current flow run has nothing to do: a newer event asked its deployment for a run; empty otherwise."""
    newer = newer_run(flow_run.id) if flow_run.id else None
    return f"superseded by {newer.name}, which a newer event asked for" if newer else ""


def newer_run(run_id: str) -> FlowRun | None:
    """The newest run that an event asked the same deployment for after this one, unless it failed or was cancelled;
    None for a run that a person or a schedule asked for."""
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(UUID(run_id))
        if this.deployment_id is None or not _by_event(this):
            return None
        same = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[this.deployment_id]))
        runs = client.read_flow_runs(flow_run_filter=same, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=NEWEST)
    candidates = [run for run in runs if _by_event(run) and run.state_type not in GIVEN_UP]
    newest = max(candidates, key=_age, default=this)
    return newest if _age(newest) > _age(this) else None


def _by_event(run: FlowRun) -> bool:
    return run.created_by is not None and run.created_by.type == EVENT


def _age(run: FlowRun) -> tuple[str, str]:
    """Runs of one instant have an order too: their ids'."""
    return run.created.isoformat() if run.created else "", str(run.id)
