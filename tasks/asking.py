"""A person asked on the page of a flow run: the run is suspended, and goes on with the answer."""

from __future__ import annotations

import atexit
from contextlib import suppress
from typing import Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.events.schemas.events import Event, Resource
from prefect.events.worker import EventsWorker
from prefect.exceptions import Pause
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

MOST_INPUTS = 200  # as many as Prefect gives at once
LAST_WORD_S = 10.0
ASKED = "slipway.flow-run.asked"  # infra/local/automations/zombies.json expects it


class Answer(RunInput):
    """What a person answers on the page of the suspended run."""

    answer: Literal["approve", "refuse"] = Field(description="approve: the candidate replaces what serves")
    name: str = Field(description="Who answers", min_length=1, max_length=200, pattern=r"\S")
    reason: str = Field(description="Why", min_length=1, max_length=2000, pattern=r"\S")


def answer_to(question: str) -> tuple[Answer | None, str]:
    """The answer that this flow run has to the question of this name; or None, and the key to ask it by: each time that
    it was left unanswered took a key, which Prefect gives out once."""
    with get_client(sync_client=True) as client:
        run_id = UUID(str(flow_run.id))
        inputs = client.filter_flow_run_input(run_id, f"suspended-{question}-", limit=MOST_INPUTS, exclude_keys=set())
    values = {one.key: one.value for one in inputs}
    number = 1
    while f"suspended-{question}-{number}-schema" in values:
        if (given := values.get(f"suspended-{question}-{number}-response")) is not None:
            return Answer.model_validate_json(given), f"{question}-{number}"
        number += 1
    return None, f"{question}-{number}"


def ask(text: str, key: str, within_s: float) -> Answer:
    """Suspend the flow run until a person answers. For the body of a flow: the process ends here the first time, by an
    exception that only Prefect catches."""
    try:
        asked = Answer.with_initial_data(description=text)
        return suspend_flow_run(wait_for_input=asked, timeout=int(within_s), key=key)
    except Pause:
        _say_at_exit(str(flow_run.id))
        raise


def _say_at_exit(run_id: str) -> None:
    """Have this process say last that the run waits for a person.

    Its heartbeats go on until the flow's contexts are closed, and one that reaches the server after `Suspended` would
    have the automation for silent runs crash a run that waits. What is sent when they have ended, and are delivered,
    is the last that is heard of the run.
    """
    with get_client(sync_client=True) as client:
        address, headers = f"{client.api_url}events", dict(client._client.headers)

    def say() -> None:
        EventsWorker.drain_all(timeout=LAST_WORD_S)
        event = Event(event=ASKED, resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run_id}"}))
        with suppress(httpx.HTTPError):
            httpx.post(address, json=[event.model_dump(mode="json")], headers=headers, timeout=LAST_WORD_S)

    atexit.register(say)
