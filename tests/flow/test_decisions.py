"""Decisions in runs of a real Prefect server: a run is suspended, a person answers on its page's API, it goes on; what
is transient is tried again, a refused candidate is not.

The flow is the end of the real ones, with engines that are small scripts: `decide`, `answered`, `promotion.promote`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_sync
from prefect.states import Completed, Pending

from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.policy import Asked
from slipway.deployment.promotion import promote
from slipway.deployment.releases import Release
from slipway.deployment.state import champion, stop
from slipway.errors import EngineError, ResourceError, StageKilledError, StateError
from slipway.store.artifacts import Dataset, Engine
from slipway.store.store import Store
from tasks.asking import ASKED
from tasks.decide import answered, decide
from tasks.stage_task import stage_task
from tests.support.prefect_server import prefect_server
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, target_params
from tests.support.world import ROOT

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Prefect's own, about its dependencies
]
LINE = "m"
PERSON, EVENT = Asked(by="person", user="ann"), Asked(by="event", user="new data")


@pytest.fixture(scope="module")
def client(pytestconfig: pytest.Config) -> Iterator[SyncPrefectClient]:
    with prefect_server(pytestconfig), get_client(sync_client=True) as client:
        yield client


class Site:
    """A target that serves a release which `chosen` asked for, and a better engine that a deployed flow decides on."""

    def __init__(
        self, folder: Path, client: SyncPrefectClient, chosen: Asked, compared: bool = True, **deploy: Any
    ) -> None:
        self.client, self.store = client, Store(folder / "store")
        self.data: Dataset = make_data(self.store)
        self.params = DeployConfig.model_validate({**target_params(str(folder / "target")).model_dump(), **deploy})
        self.first = self._promote(self._engine(version=1), chosen)
        self.candidate = self._engine(version=2)
        against = [self.first.engine(self.store.root)] if compared else []
        self.verdict = make_verdict(self.store, self.candidate, against=against)
        self.decided: dict[str, Any] = {}

    def policy(self, policy: str) -> None:
        self.params = DeployConfig.model_validate({**self.params.model_dump(), "policy": policy})

    def body(self) -> str:
        """The last lines of a run."""
        summary = SimpleNamespace(decision={})
        run: Any = SimpleNamespace(config=SimpleNamespace(line=LINE, deploy=self.params), summary=summary)
        made = decide(run, self.candidate, self.verdict)
        made = answered(run, made, self.params)
        self.decided = made.document()
        if not made.promotes:
            return "kept"
        approved = made.approval is not None
        arguments = (self.candidate, self.verdict, self.data, {"decision.json": made.text()}, self.params)
        return promote(*arguments, model=LINE, asked=made.asked, approved=approved).name

    def deployed(self, *, by_event: bool) -> tuple[Flow[Any, Any], UUID]:
        """The flow and a run of its deployment, as an automation or a person creates it."""
        body = flow(name=f"ship-{uuid.uuid4().hex[:8]}")(self.body)
        where = self.client.create_deployment(self.client.create_flow(body), name=uuid.uuid4().hex)
        name = base64.b64encode(b"slipway: retrain on new data").decode()
        headers = {"prefect-automation-id": str(uuid.uuid4()), "prefect-automation-name": name} if by_event else {}
        answer = self.client._client.post(
            f"/deployments/{where}/create_flow_run", json={"state": {"type": "PENDING"}}, headers=headers
        )
        answer.raise_for_status()
        return body, UUID(answer.json()["id"])

    def go(self, body: Flow[Any, Any], run: UUID) -> State[Any]:
        """One process's part of the run: from its start, or from the answer."""
        with suppress(Pause):  # where it is suspended its process ends by this
            run_flow_sync(body, flow_run=self.client.read_flow_run(run), return_type="state")
        state = self.client.read_flow_run(run).state
        assert state is not None
        return state

    def answer(self, run: UUID, **given: str) -> None:
        """What the page's button sends."""
        reply = self.client._client.post(f"/flow_runs/{run}/resume", json={"run_input": given})
        assert reply.json()["status"] == "ACCEPT", reply.text
        self.client.set_flow_run_state(run, State(type="PENDING"))  # as a worker takes it up

    def _engine(self, **more: Any) -> Engine:
        return make_engine(self.store, {"answer": JSON_ANSWER, **more})

    def _promote(self, engine: Engine, asked: Asked) -> Release:
        return promote(engine, make_verdict(self.store, engine), self.data, {}, self.params, model=LINE, asked=asked)


@pytest.fixture
def site(tmp_path: Path, client: SyncPrefectClient) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**more: Any) -> Site:
        made.append(Site(tmp_path / str(len(made)), client, **more))
        return made[-1]

    yield make
    for one in made:
        with suppress(StateError, ResourceError):
            stop(one.params)


def test_an_event_meets_a_persons_champion_and_a_person_refuses(site: Callable[..., Site]) -> None:
    here = site(chosen=PERSON)
    body, run = here.deployed(by_event=True)
    asked = here.go(body, run)
    assert asked.is_paused() and asked.name == "Suspended"
    assert champion(here.params) == here.first
    here.answer(run, answer="refuse", name="ann", reason="trade fair")
    ended = here.go(body, run)
    assert ended.is_completed(), ended.message
    ruling, approval = here.decided["ruling"], here.decided["approval"]
    assert ruling["rule"] == "a person's choice" and "a person chose 0001" in ruling["reason"]
    assert (approval["approved"], approval["by"], approval["reason"]) == (False, "ann", "trade fair")
    assert champion(here.params) == here.first


def test_policy_ask_suspends_a_persons_run_and_what_is_approved_serves(site: Callable[..., Site]) -> None:
    here = site(chosen=EVENT)
    here.policy("ask")
    body, run = here.deployed(by_event=False)
    assert here.go(body, run).name == "Suspended"
    here.answer(run, answer="approve", name="bob", reason="looked at the answers")
    ended = here.go(body, run)
    assert ended.is_completed(), ended.message
    serving = champion(here.params)
    assert serving and serving.name.startswith("0002")
    assert here.decided["ruling"]["rule"] == "policy ask"
    assert here.decided["approval"]["by"] == "bob" and here.decided["approval"]["given"] == "prefect"


def test_an_event_replaces_its_own_line_by_itself_and_never_what_it_was_not_compared_with(
    site: Callable[..., Site],
) -> None:
    compared, blind = site(chosen=EVENT), site(chosen=EVENT, compared=False)
    state = compared.go(*compared.deployed(by_event=True))
    assert state.is_completed(), state.message
    assert compared.decided["ruling"]["rule"] == "own line" and compared.decided["asked"]["by"] == "event"
    kept = blind.go(*blind.deployed(by_event=True))
    assert kept.is_completed() and blind.decided["ruling"]["rule"] == "not compared"
    assert champion(blind.params) == blind.first


def test_an_answer_about_another_champion_answers_nothing(site: Callable[..., Site]) -> None:
    """Between question and answer somebody promotes something else: it is asked anew."""
    here = site(chosen=PERSON)
    body, run = here.deployed(by_event=True)
    assert here.go(body, run).name == "Suspended"
    other = here._promote(here._engine(version=3), PERSON)
    here.verdict = make_verdict(
        here.store, here.candidate, against=[here.first.engine(here.store.root), other.engine(here.store.root)]
    )
    here.answer(run, answer="approve", name="ann", reason="about the first one")
    assert here.go(body, run).name == "Suspended"
    assert champion(here.params) == other


@pytest.mark.parametrize(("error", "tries"), [(StageKilledError, 2), (EngineError, 1)])
def test_a_killed_stage_is_tried_again_and_a_refused_candidate_is_not(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch, error: type[Exception], tries: int
) -> None:
    attempts: list[int] = []
    monkeypatch.setattr("tasks.stage_task.RETRY_DELAY_S", 0)

    @stage_task("once", timeout_s=60)
    def once(run: Any) -> State[str]:
        attempts.append(1)
        if len(attempts) == 1:
            raise error("engine", "died", "an answer", "read its log")
        return Completed(data="made")

    @flow(name="retries")
    def retries() -> str:
        return once(SimpleNamespace())  # type: ignore[arg-type]

    state = retries(return_state=True)
    assert len(attempts) == tries and state.is_completed() == (tries == 2)


ASKS = """
import sys
from contextlib import contextmanager
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.flow_engine import run_flow_sync
from tasks.asking import ask

RUN = sys.argv[1]

@contextmanager
def closing():
    try:
        yield
    finally:  # as the heartbeat's thread does while a run closes its tracker
        emit_event("prefect.flow-run.heartbeat", resource={"prefect.resource.id": f"prefect.flow-run.{RUN}"})

@flow(name="asks")
def asks():
    with closing():
        ask("May it?", "may-it-1", 600)

with get_client(sync_client=True) as client:
    run = client.read_flow_run(RUN)
run_flow_sync(asks, flow_run=run)
"""


def test_a_run_that_waits_for_a_person_is_heard_of_last_by_the_word_that_it_waits(client: SyncPrefectClient) -> None:
    """A heartbeat behind `Suspended` starts the 90 s after which the automation crashes a run that went silent."""

    @flow(name="asks")
    def asks() -> None:
        """Registered here, run there."""

    where = client.create_deployment(client.create_flow(asks), name=uuid.uuid4().hex)
    run = client.create_flow_run_from_deployment(where, state=Pending()).id
    environment = {**os.environ, "PREFECT_API_URL": str(client.api_url), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ASKS, str(run)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    state = client.read_flow_run(run).state
    assert state and state.name == "Suspended", ended.stderr
    automation = json.loads((ROOT / "infra/local/automations/zombies.json").read_text())["trigger"]
    about = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}, "order": "DESC"}, "limit": 50}
    events = wait_for_events(client, about)
    assert events[0] == ASKED in automation["expect"] and "prefect.flow-run.heartbeat" in events


def wait_for_events(client: SyncPrefectClient, about: dict[str, Any]) -> list[str]:
    """Names of events about a resource, the newest first, once the last word is among them."""
    deadline = time.monotonic() + 60
    while True:
        events = client._client.post("/events/filter", json=about).json()["events"]
        names = [event["event"] for event in events]
        if ASKED in names or time.monotonic() > deadline:
            return names
        time.sleep(0.2)
