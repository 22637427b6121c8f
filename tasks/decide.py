"""Decide: may the candidate replace what serves, by whose word; and, where a person must say so, their answer.

A question suspends the flow run: its process ends, and the run's page in Prefect's UI shows the table and takes the
answer. Answered, the run starts again, finds every stage made, and comes here with the answer. Unanswered for
`deploy.answer_within_s`, Prefect fails the run: that counts as no. Its retry asks again; what serves is untouched.
"""

from __future__ import annotations

from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment

from slipway.agent.records import utc_now
from slipway.config.deploy import DeployConfig
from slipway.deployment.decision import incumbent
from slipway.deployment.decision.explanation import markdown, outcome, question
from slipway.deployment.decision.record import Approval, Decision
from slipway.ops import message
from slipway.store.artifacts import Engine, Verdict
from slipway.system.redact import mask
from tasks import prefect_ui
from tasks.asking import answer_to, ask
from tasks.notify import notify
from tasks.run import Run


@task(name="decide", task_run_name="decide", cache_policy=NO_CACHE)
def decide(
    run: Run, engine: Engine, verdict: Verdict, *, by_hand: bool = False, named: bool = False, approve: str = ""
) -> Decision:
    """The decision on the candidate, before a person was asked. `by_hand`: somebody wants a promotion; `named`: of this
    very candidate; `approve`: their reason to accept what needs a person's word."""
    asked = prefect_ui.requester(incumbent.this_user()).model_copy(update={"by_hand": by_hand, "named": named})
    decided = incumbent.decide(engine, verdict, run.config.line, asked, run.config.deploy)
    if approve and (decided.ruling.action == "ask" or (decided.promotes and decided.gate.outcome == "inconclusive")):
        decided = _with(decided, approved=True, by=asked.user or "unknown", reason=approve, given="command")
    run.summary.decision = decided.document()
    get_run_logger().info("%s: %s", outcome(decided), decided.ruling.reason)
    return decided


def tell(run: Run, decided: Decision) -> None:
    """Tell the blocks of `notify.to` of the gate's outcome and of what follows, once."""
    if run.config.notify.to:
        notify(run.config, message.decided(decided, prefect_ui.flow_run_url()))


def answered(run: Run, decided: Decision, params: DeployConfig) -> Decision:
    """The decision with a person's answer, where it needs one and the run can wait for one: it is suspended until then.

    A run that no deployment started cannot be suspended, and comes back as it is. For the body of a flow: the process
    ends here the first time, by an exception that only Prefect catches.
    """
    if decided.ruling.action != "ask" or decided.approval or not deployment.id:
        return decided
    answer, key = answer_to(_question(decided))
    if answer is None:
        prefect_ui.markdown("decision", markdown(decided), "A person is asked")
        answer = ask(mask(question(decided)), key, params.answer_within_s)
    decided = _with(decided, approved=answer.answer == "approve", by=answer.name, reason=answer.reason, given="prefect")
    run.summary.decision = decided.document()
    return decided


def _question(decided: Decision) -> str:
    """One name for one question: an answer about another champion or verdict answers nothing here."""
    over = decided.champion.release if decided.champion else "nothing"
    return f"replace-{over}-by-{decided.engine[:12]}-verdict-{decided.gate.verdict[:12]}"


def _with(decided: Decision, *, approved: bool, by: str, reason: str, given: Literal["prefect", "command"]) -> Decision:
    approval = Approval(approved=approved, by=by.strip(), reason=reason.strip(), time=utc_now(), given=given)
    return decided.model_copy(update={"approval": approval})
