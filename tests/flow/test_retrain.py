"""Retraining that runs itself, on a real Prefect server with its events: the deployments of prefect.yaml as `make up`
installs them, and runs of theirs as triggers, automations and schedules make them."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Cancelled, Completed, Running, Suspended

from flows.stuck import tell_stuck
from flows.tell_pending import tell_pending
from slipway.cli import flows as cli_flows
from slipway.cli.flows import send_messages
from slipway.config.load import load_config
from slipway.errors import ConfigError
from slipway.ops.credentials import ensure_credentials
from slipway.ops.data_events import PUBLISHED, payload_of, resource_of
from slipway.ops.data_versions import DataVersion
from slipway.ops.message import rolled_back, was_sent
from slipway.ops.pending_messages import pending_messages, write_down
from slipway.ops.prefect_api import deployments, emit_event
from slipway.ops.services import Services
from slipway.system.ports import any_port
from tasks.notify import notify
from tasks.superseded import newer_run, superseded
from tests.support.deployed_server import deployed_server, deployment, runs_of, wait
from tests.support.pager import pager as pages
from tests.support.world import ROOT, small_config, small_settings

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Prefect's own, about its dependencies
]


@pytest.fixture(scope="module")
def client(pytestconfig: pytest.Config) -> Iterator[SyncPrefectClient]:
    """A server with the deployments and their triggers."""
    with deployed_server(pytestconfig) as client:
        yield client


def announce(client: SyncPrefectClient, folder: Path, version: DataVersion) -> None:
    """The event that `slipway data publish` sends."""
    port = urlsplit(str(client.api_url)).port
    assert port
    ensure_credentials(folder)
    services = Services(ROOT, folder, port, port)
    assert emit_event(services, PUBLISHED, resource_of(version), payload_of(version))


def test_every_deployment_of_prefect_yaml_is_installed(client: SyncPrefectClient) -> None:
    names = deployments(ROOT)
    assert {"finetune-and-ship", "retrain-on-data", "look-for-data", "promote"} <= set(names)
    made = {name: deployment(client, name) for name in names}
    crons = {name: [s["schedule"]["cron"] for s in one["schedules"]] for name, one in made.items() if one["schedules"]}
    assert crons["finetune-and-ship"] == ["0 3 * * 1"] and crons["look-for-data"] == ["*/15 * * * *"]
    limits = {name: (one["global_concurrency_limit"] or {}).get("limit") for name, one in made.items()}
    assert limits["retrain-on-data"] == limits["finetune-and-ship"] == limits["look-for-data"] == 1


def test_three_versions_in_a_second_make_one_run_on_the_newest(client: SyncPrefectClient, tmp_path: Path) -> None:
    versions = [DataVersion("data/x.jsonl", f"{number:032x}", f"c{number}") for number in (1, 2, 3)]
    for version in versions:
        announce(client, tmp_path, version)
    runs = wait(lambda: (made := runs_of(client, "retrain-on-data"))[2:] and made)
    assert len(runs) == 3
    asked = {run["parameters"]["digest"]: run for run in runs}
    assert set(asked) == {version.digest for version in versions}
    for run in runs:
        assert run["created_by"]["type"] == "AUTOMATION"
    newest = asked[versions[2].digest]["id"]  # in whatever order the server made the runs
    newer = {digest: newer_run(run["id"]) for digest, run in asked.items()}
    assert [str(getattr(newer[v.digest], "id", "")) for v in versions] == [newest, newest, ""]


@flow(name="waiting")
def waiting() -> str:
    """Asks what the first line of each scheduled flow asks."""
    return superseded()


def own_deployment(client: SyncPrefectClient, **more: Any) -> UUID:
    """A deployment for one test."""
    return client.create_deployment(client.create_flow(waiting), name=uuid.uuid4().hex, **more)


def asked(client: SyncPrefectClient, where: UUID, *, by_event: bool = True) -> str:
    """A run as an automation creates it for an event, or as a person does; its id."""
    name = base64.b64encode(b"slipway: retrain on new data").decode()
    headers = {"prefect-automation-id": str(uuid.uuid4()), "prefect-automation-name": name} if by_event else {}
    body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
    answer = client._client.post(f"/deployments/{where}/create_flow_run", json=body, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["id"])


def test_a_newer_run_that_was_cancelled_supersedes_nothing(client: SyncPrefectClient) -> None:
    where = own_deployment(client)
    older, newer = asked(client, where), asked(client, where)
    assert str(getattr(newer_run(older), "id", None)) == newer
    client.set_flow_run_state(UUID(newer), Cancelled(), force=True)
    assert newer_run(older) is None


def test_what_a_person_asks_for_is_superseded_by_nothing(client: SyncPrefectClient) -> None:
    where = own_deployment(client)
    mine, _ = asked(client, where, by_event=False), asked(client, where)
    assert newer_run(mine) is None
    assert newer_run(asked(client, own_deployment(client))) is None
    assert waiting() == ""


def test_of_the_starts_that_a_schedule_missed_one_is_made_up_for(client: SyncPrefectClient) -> None:
    """The server's scheduler made the starts of two hours, one of which has gone: as after a worker was away. With an
    SQLAlchemy other than the lock's it makes none."""
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="*/10 * * * *"))
    where = own_deployment(client, schedules=[schedule])
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(hours=1)).isoformat(), "end_time": (now + timedelta(hours=1)).isoformat()}
    made = client._client.post(f"/deployments/{where}/schedule", json={**span, "min_runs": 1})
    assert made.is_success, made.text
    body = {"deployments": {"id": {"any_": [str(where)]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs = client._client.post("/flow_runs/filter", json=body).json()
    due = [run["id"] for run in runs if datetime.fromisoformat(run["expected_start_time"]) < now]
    assert 5 <= len(due) < len(runs) and all(run["auto_scheduled"] for run in runs)
    newer = [newer_run(run["id"]) for run in runs]
    assert [str(run.id) if run else "" for run in newer] == [due[-1]] * (len(due) - 1) + [""] * (
        len(runs) - len(due) + 1
    )


@pytest.fixture(scope="module")
def pager(client: SyncPrefectClient) -> Iterator[list[dict[str, Any]]]:
    """What the blocks `custom-webhook/pager` and `custom-webhook/down` sent."""
    with pages() as messages:
        yield messages


@pytest.mark.usefixtures("client")
def test_a_message_reaches_the_block_once_and_one_that_is_away_ends_nothing(
    pager: list[dict[str, Any]], tmp_path: Path
) -> None:
    blocks = "[custom-webhook/down,custom-webhook/pager,custom-webhook/none]"
    config = small_config(tmp_path, "sqlite:///x.db", any_port(), **{"notify.to": blocks})
    pager.clear()

    @flow(name="tells")
    def tells() -> list[list[str]]:
        messages = [rolled_back("spark", name, "2026") for name in ("0001-aa", "0001-aa", "0002-bb")]
        quiet = config.model_copy(update={"notify": config.notify.model_copy(update={"on": ["drift"]})})
        return [*(notify(config, one) for one in messages), notify(quiet, rolled_back("spark", "0003-cc", "2026"))]

    assert tells() == [["custom-webhook/pager"], [], ["custom-webhook/pager"], []]
    assert [one["subject"] for one in pager] == ["spark: 0001-aa serves again", "spark: 0002-bb serves again"]
    assert all("Next: `slipway history`" in one["text"] for one in pager)


@pytest.mark.usefixtures("client")
def test_what_was_written_down_while_prefect_was_away_waits_for_its_block_and_is_told(
    client: SyncPrefectClient, pager: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is away leaves it written down; then the shell's own way, which is a process of its own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url).rstrip("/"))
    words = [f"{k}={v}" for k, v in small_settings(tmp_path, "sqlite:///x.db", any_port()).items()]
    store = Path(load_config(ROOT / "conf", words).store.root)
    message = rolled_back("spark", "0007-aa", "2026")
    monkeypatch.setattr(cli_flows, "SEND_S", 600.0)  # however slow this machine is just now
    pager.clear()
    write_down(store, message)
    down = "notify.to=[custom-webhook/down]"
    assert tell_pending({}, [*words, down], return_state=True).message == "nothing was sent"
    assert pending_messages(store) == [message] and not was_sent(store, message)
    send_messages(ROOT / "conf", [*words, "notify.to=[custom-webhook/pager]"])
    assert [one["subject"] for one in pager] == [message.subject]
    assert pending_messages(store) == [] and was_sent(store, message)


def automation(client: SyncPrefectClient, file: str, within: int) -> None:
    """Install an automation as `make up` does, with less patience."""
    document = json.loads((ROOT / "infra/local/automations" / file).read_text())
    document["trigger"]["within"] = within
    client._client.post("/automations/", json=document).raise_for_status()


def heard(client: SyncPrefectClient, run: str, name: str = "heartbeat") -> None:
    """What the process of a flow run says while it lives."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"prefect.flow-run.{name}",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "payload": {},
    }
    client._client.post("/events", json=[event]).raise_for_status()


def test_a_silent_run_crashes_and_somebody_is_told_and_one_that_ended_or_asks_does_not(
    client: SyncPrefectClient, pager: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The automation of infra/local and the deployment tell-stuck; the run's state has a name of our own."""
    automation(client, "zombies.json", within=10)
    where = own_deployment(client, tags=["slipway"])
    silent, ended, asks = (asked(client, where) for _ in range(3))
    for run in (silent, ended, asks):
        client.set_flow_run_state(UUID(run), Running(), force=True)
        heard(client, run)
    client.set_flow_run_state(UUID(ended), Completed(name="Unchanged"), force=True)
    client.set_flow_run_state(UUID(asks), Suspended(), force=True)

    def state(run: str) -> str:
        return str(client._client.get(f"/flow_runs/{run}").json()["state"]["name"])

    wait(lambda: state(silent) == "Crashed")
    (teller,) = wait(lambda: runs_of(client, "tell-stuck"))
    assert teller["parameters"]["run"] == f"prefect.flow-run.{silent}"
    assert (state(ended), state(asks)) == ("Unchanged", "Suspended")
    words = [f"{k}={v}" for k, v in small_settings(tmp_path, "sqlite:///x.db", any_port()).items()]
    pager.clear()
    ran = tell_stuck(teller["parameters"]["run"], {}, [*words, "notify.to=[custom-webhook/pager]"], return_state=True)
    assert ran.is_completed() and ran.message == "told custom-webhook/pager"
    with pytest.raises(ConfigError, match="the id of a flow run"):
        tell_stuck("prefect.flow-run.none", {}, words)
    assert "got stuck: Crashed" in pager[0]["subject"] and "No heartbeat" in pager[0]["text"]


def test_a_run_that_never_ends_is_cancelled(client: SyncPrefectClient) -> None:
    automation(client, "longest.json", within=10)
    run = asked(client, own_deployment(client, tags=["slipway"]))
    client.set_flow_run_state(UUID(run), Running(), force=True)
    wait(lambda: client.read_flow_run(UUID(run)).state.type in ("CANCELLING", "CANCELLED"))  # type: ignore[union-attr]


def test_every_state_of_our_flows_ends_the_wait_for_its_end() -> None:
    expected = json.loads((ROOT / "infra/local/automations/longest.json").read_text())["trigger"]["expect"]
    sources = [file.read_text() for folder in ("flows", "tasks") for file in (ROOT / folder).glob("*.py")]
    names = {name for text in sources for name in re.findall(r'Completed\(\s*name="(\w+)"', text)} | {
        "Announced",
        "Waiting",
    }
    assert {f"prefect.flow-run.{name}" for name in names} <= set(expected) and "Unchanged" in names
