"""Three events in a second: one run works, on the newest; on a real Prefect server, as its automations make runs."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelled
from prefect.testing.utilities import prefect_test_harness

from tasks.superseded import newer_run, superseded

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Prefect's own, about its dependencies
]


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
        yield client


@flow(name="retrain")
def retrain() -> str:
    return superseded()


def deployment(client: SyncPrefectClient) -> UUID:
    """A deployment of its own for each test."""
    return client.create_deployment(client.create_flow(retrain), name=uuid.uuid4().hex)


def asked(client: SyncPrefectClient, where: UUID, *, by_event: bool = True) -> str:
    """A run as an automation creates it for an event, or as a person does; its id."""
    name = base64.b64encode(b"slipway: retrain on new data").decode()
    headers = {"prefect-automation-id": str(uuid.uuid4()), "prefect-automation-name": name} if by_event else {}
    body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
    answer = client._client.post(f"/deployments/{where}/create_flow_run", json=body, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["id"])


def test_report_14_three_data_versions_in_a_second_make_one_run_on_the_newest(client: SyncPrefectClient) -> None:
    where = deployment(client)
    runs = [asked(client, where) for _ in range(3)]
    newer = [newer_run(run) for run in runs]
    assert [str(run.id) if run else None for run in newer] == [runs[2], runs[2], None]


def test_a_newer_run_that_was_cancelled_supersedes_nothing(client: SyncPrefectClient) -> None:
    where = deployment(client)
    older, newer = asked(client, where), asked(client, where)
    client.set_flow_run_state(UUID(newer), Cancelled(), force=True)
    assert newer_run(older) is None


def test_what_a_person_asks_for_is_superseded_by_nothing(client: SyncPrefectClient) -> None:
    where = deployment(client)
    mine, _ = asked(client, where, by_event=False), asked(client, where)
    assert newer_run(mine) is None
    assert newer_run(asked(client, deployment(client))) is None
    assert retrain() == ""
