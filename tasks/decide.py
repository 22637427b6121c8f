"""Decide: may the candidate replace what serves, by whose word; and, where a person must say so, their answer.

A question suspends the flow run: its process ends, and the run's page in Prefect's UI shows the table and takes the
answer. Answered, the run starts again, finds every stage made, and comes here with the answer. Unanswered for
`deploy.answer_within_s`, Prefect fails the run: that counts as no. Its retry asks again; what serves is untouched.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from slipway.config.deploy import DeployConfig
from slipway.deployment.decision import incumbent
from slipway.deployment.decision.explanation import markdown, outcome, question
from slipway.deployment.decision.record import Approval, Decision, now
from slipway.store.artifacts import Engine, Verdict
from slipway.system.redact import mask
from tasks import prefect_ui
from tasks.run import Run

MOST_INPUTS = 200  # as many as Prefect gives at once


class Answer(RunInput):
    """What a person answers on the page of the suspended run."""

    answer: Literal["approve", "refuse"] = Field(description="approve: the candidate replaces what serves")
    name: str = Field(description="Who answers", min_length=1, max_length=200, pattern=r"\S")
    reason: str = Field(description="Why", min_length=1, max_length=2000, pattern=r"\S")


@task(name="decide", task_run_name="decide", cache_policy=NO_CACHE)
def decide(
    run: Run, engine: Engine, verdict: Verdict, *, by_hand: bool = False, named: bool = False, approve: str = ""
) -> Decision:
    """The decision on the candidate, before a person was asked. `by_hand`: somebody wants a promotion; `named`: of this
    very candidate; `approve`: their reason to accept what needs a person's word."""
    asked = prefect_ui.requester(incumbent.this_user()).model_copy(update={"by_hand": by_hand, "named": named})
    decided = incumbent.decide(engine, verdict, run.config.line, asked, run.config.deploy)
    if approve and decided.ruling.action == "ask":
        decided = _with(decided, approved=True, by=asked.user or "unknown", reason=approve, given="command")
    run.summary.decision = decided.document()
    get_run_logger().info("%s: %s", outcome(decided), decided.ruling.reason)
    return decided


def answered(run: Run, decided: Decision, params: DeployConfig) -> Decision:
    """The decision with a person's answer, where it needs one and the run can wait for one: it is suspended until then.

    A run that no deployment started cannot be suspended, and comes back as it is. For the body of a flow: the process
    ends here the first time, by an exception that only Prefect catches.
    """
    if decided.ruling.action != "ask" or decided.approval or not deployment.id:
        return decided
    answer, key = _answer_to(_question(decided))
    if answer is None:
        prefect_ui.markdown("decision", markdown(decided), "A person is asked")
        answer = _ask(mask(question(decided)), key, params.answer_within_s)
    decided = _with(decided, approved=answer.answer == "approve", by=answer.name, reason=answer.reason, given="prefect")
    run.summary.decision = decided.document()
    return decided


def _question(decided: Decision) -> str:
    """One name for one question: an answer about another champion or verdict answers nothing here."""
    over = decided.champion.release if decided.champion else "nothing"
    return f"replace-{over}-by-{decided.engine[:12]}-verdict-{decided.gate.verdict[:12]}"


def _answer_to(name: str) -> tuple[Answer | None, str]:
    """The answer that this flow run has to a question; or None, and the key to ask it by: each time that it was left
    unanswered took a key, which Prefect gives out once."""
    with get_client(sync_client=True) as client:
        run_id = UUID(str(flow_run.id))
        inputs = client.filter_flow_run_input(run_id, f"suspended-{name}-", limit=MOST_INPUTS, exclude_keys=set())
    values = {one.key: one.value for one in inputs}
    number = 1
    while f"suspended-{name}-{number}-schema" in values:
        if (given := values.get(f"suspended-{name}-{number}-response")) is not None:
            return Answer.model_validate_json(given), f"{name}-{number}"
        number += 1
    return None, f"{name}-{number}"


def _ask(text: str, key: str, within_s: float) -> Answer:
    """Suspend the flow run until a person answers; see the module's docstring."""
    try:
        asked = Answer.with_initial_data(description=text)
        return suspend_flow_run(wait_for_input=asked, timeout=int(within_s), key=key)
    except Pause:
        # A heartbeat sent just before may reach the server after its own event `Suspended`; 90 s later the run would
        # count as silent and be crashed. This event goes the heartbeat's way, behind it.
        emit_event("slipway.flow-run.asked", resource={"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"})
        raise


def _with(decided: Decision, *, approved: bool, by: str, reason: str, given: Literal["prefect", "command"]) -> Decision:
    approval = Approval(approved=approved, by=by.strip(), reason=reason.strip(), time=now(), given=given)
    return decided.model_copy(update={"approval": approval})
