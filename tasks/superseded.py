"""Of several runs that events or a schedule asked for, and that wait for one another, the newest works; the others say
which one that is.

Three data versions published in a second make three flow runs. The older ones would train on data that are no longer
the newest, and replace one another's releases. A schedule whose worker was away has every missed start waiting when it
comes back: one of them is enough, and a start that lies ahead is none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run

EVENT = "AUTOMATION"  # Prefect's word for who created a run that an event asked for
GIVEN_UP = (StateType.FAILED, StateType.CRASHED, StateType.CANCELLED, StateType.CANCELLING)
NEWEST = 50  # runs looked at


def superseded() -> str:
    """Why the current flow run has nothing to do: a newer event asked its deployment for a run, or a later start of its
    schedule is due too; empty otherwise."""
    newer = newer_run(flow_run.id) if flow_run.id else None
    if newer is None:
        return ""
    if _by_event(newer):
        return f"superseded by {newer.name}, which a newer event asked for"
    return f"superseded by {newer.name}, a later start of the schedule ({newer.expected_start_time}) that is due too"


def newer_run(run_id: str) -> FlowRun | None:
    """The newest run that an event, or that the schedule by now, asked the same deployment for after this one, unless
    it failed or was cancelled; None for a run that a person asked for."""
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(UUID(run_id))
        if this.deployment_id is None or not (_by_event(this) or this.auto_scheduled):
            return None
        now = datetime.now(UTC)
        same = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[this.deployment_id]),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        )
        runs = client.read_flow_runs(flow_run_filter=same, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=NEWEST)
    alike, age = (_by_event, _age) if _by_event(this) else (_by_schedule, _start)
    candidates = [run for run in runs if alike(run) and run.state_type not in GIVEN_UP]
    newest = max(candidates, key=age, default=this)
    return newest if age(newest) > age(this) else None


def _by_event(run: FlowRun) -> bool:
    return run.created_by is not None and run.created_by.type == EVENT


def _by_schedule(run: FlowRun) -> bool:
    return bool(run.auto_scheduled)


def _start(run: FlowRun) -> tuple[str, str]:
    """Starts of a schedule are made ahead of time, in any order."""
    return run.expected_start_time.isoformat() if run.expected_start_time else "", str(run.id)


def _age(run: FlowRun) -> tuple[str, str]:
    """When the event of a run was said, where it has that for a parameter: a server may take up two events in the other
    order. Runs of one instant have an order too: their ids'."""
    announced = str(run.parameters.get("announced") or run.created or "")
    return announced.replace(" ", "T"), str(run.id)
