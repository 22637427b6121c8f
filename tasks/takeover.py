"""What a killed run left open is closed by the next one: its runs in MLflow become KILLED, its flow run in Prefect
Crashed.

Only runs that this store recorded and whose process died on this host: they carry the id of the record.
"""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from slipway.pipeline.runs import RunEntry, Runs, tracking_digest
from tasks.tracking.run import close_killed

MESSAGE = "Its process was killed; the next run of its store closed it."


def take_over(runs: Runs, tracking_uri: str, experiment: str) -> list[RunEntry]:
    """Close what killed runs of this store left open; the runs that were closed.

    One that was tracked by another MLflow server stays on record for a run that uses that server again.
    """
    closed = []
    for entry in runs.entries():
        if entry.tracking != tracking_digest(tracking_uri):
            continue
        with runs.taken_over(entry) as killed:
            if killed:
                close_killed(experiment, entry.id)
                _crash(entry.flow_run)
                closed.append(entry)
    return closed


def _crash(flow_run: str) -> None:
    if not flow_run:
        return
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except ObjectNotFound:
            return
        if state is None or not state.is_final():
            client.set_flow_run_state(UUID(flow_run), Crashed(message=MESSAGE), force=True)
        _crash_tasks(client, UUID(flow_run))


def _crash_tasks(client: SyncPrefectClient, flow_run: UUID) -> None:
    for task_run in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))):
        if task_run.state and task_run.state.is_running():
            client.set_task_run_state(task_run.id, Crashed(message=MESSAGE), force=True)
