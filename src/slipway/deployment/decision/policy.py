"""Who may replace what serves: one pure function over the request, the incumbent, the target's policy and its holds.

`deploy.policy` says what a run may do by itself; `slipway promote` is a person's own word and passes every policy.

    own-line    a run of a schedule or an event replaces a champion of its own line that its gate compared it with,
                and asks where a person chose that champion; a person's run replaces
    ask         every run asks before it replaces
    never       no run replaces

Everybody is refused while the target is held and when the gate failed; an inconclusive gate always asks. A release of
an earlier version does not say who asked for it: it counts as a person's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Requester = Literal["person", "schedule", "event"]
Policy = Literal["own-line", "ask", "never"]
Action = Literal["replace", "ask", "keep"]
REQUESTERS: dict[Requester, str] = {"person": "a person", "schedule": "a schedule", "event": "an event"}


class Asked(BaseModel):
    """Who asked for a promotion: kind of requester, user name, id of the flow run (empty where there was none), whether
    by `slipway promote`, and whether that named the verdict instead of taking the newest."""

    model_config = ConfigDict(frozen=True)

    by: Requester = "person"
    user: str = Field("", max_length=200)
    flow_run: str = Field("", max_length=200)
    by_hand: bool = False
    named: bool = False


@dataclass(frozen=True)
class Incumbent:
    """What serves: release, line, engine digest, who chose it (None where no record says so), and the digest of the
    index that it carries, empty where it carries none."""

    release: str
    line: str
    engine: str
    chosen_by: Requester | None
    index: str = ""


@dataclass(frozen=True)
class Request:
    """A candidate at the door: engine digest, line, gate's outcome, who asks, whether by `slipway promote`, and whether
    that named it.

    `compared_with`: digests of the engines that its gate compared it with. `withdrawn`: somebody rolled back from this
    very engine and index, and no promotion brought them back since. `index`: digest of the index that goes with it.
    """

    engine: str
    line: str
    outcome: str
    by: Requester
    by_hand: bool = False
    named: bool = False
    compared_with: frozenset[str] = frozenset()
    withdrawn: bool = False
    index: str = ""


@dataclass(frozen=True)
class Ruling:
    """What may happen now, by which rule, and the sentence for people."""

    action: Action
    rule: str
    reason: str


def ruling(request: Request, incumbent: Incumbent | None, policy: Policy, holds: Sequence[str]) -> Ruling:
    """The first rule that applies, in the order: gate, hold, nothing serves, same engine, what a run may not do, what
    needs a person, what a run may do. `holds`: a sentence for each hold on the whole target."""
    if request.outcome == "fail":
        return Ruling("keep", "gate", "the gate failed")
    if holds:
        return Ruling("keep", "hold", f"the target is held: {'; '.join(holds)}; `slipway unhold` frees it")
    if incumbent and (incumbent.engine, incumbent.index) == (request.engine, request.index):
        return Ruling("replace", "same engine", f"{incumbent.release} is this engine: nothing changes")
    if refusal := _refusal(request, incumbent, policy):
        return refusal
    if request.outcome != "pass":
        why = f"the gate is {request.outcome}: a person decides{_not_compared(request, incumbent)}"
        return Ruling("ask", "inconclusive", why)
    if request.by_hand:
        return Ruling("replace", "by hand", f"asked for by `slipway promote`{_not_compared(request, incumbent)}")
    if incumbent is None:
        return Ruling("replace", "first", "nothing serves there yet")
    return _run_against(request, incumbent, policy)


def _run_against(request: Request, incumbent: Incumbent, policy: Policy) -> Ruling:
    """A run whose candidate passed, and something else serves that it may replace or ask about."""
    if policy == "ask":
        return Ruling("ask", "policy ask", "deploy.policy=ask: a person decides")
    if request.by == "person":
        return Ruling("replace", "person", f"a person's run{_not_compared(request, incumbent)}")
    if incumbent.chosen_by in (None, "person"):
        who = "a person chose" if incumbent.chosen_by else "no record says who chose"
        why = f"{who} {incumbent.release}: {REQUESTERS[request.by]} asks before it replaces it"
        return Ruling("ask", "a person's choice", why)
    return Ruling("replace", "own line", f"{incumbent.release} is of the same line and was compared with")


def _not_compared(request: Request, incumbent: Incumbent | None) -> str:
    """What a person should know of a verdict that was made before, or for another target, than what serves now."""
    if incumbent is None or incumbent.engine in {*request.compared_with, request.engine}:
        return ""
    return f"; its gate did not compare it with {incumbent.release}, which serves"


def _refusal(request: Request, incumbent: Incumbent | None, policy: Policy) -> Ruling | None:
    """What a run may not do by itself, whoever approves; `slipway promote` may, but bring back what was rolled back
    only where it is named."""
    if request.withdrawn and incumbent and not request.named:
        why = f"this engine was rolled back; {incumbent.release} stays; `slipway promote VERDICT` brings it back"
        return Ruling("keep", "rolled back", why)
    if incumbent is None or request.by_hand:
        return None
    if policy == "never":
        return Ruling("keep", "policy never", "deploy.policy=never: only `slipway promote` replaces what serves")
    if request.by == "person":
        return None
    if incumbent.line != request.line:
        why = f"{incumbent.release} is of line {incumbent.line}, this candidate of {request.line}"
        return Ruling("keep", "another line", f"{why}: {REQUESTERS[request.by]} replaces its own line only")
    if incumbent.engine not in {*request.compared_with, request.engine}:
        why = f"the gate did not compare the candidate with {incumbent.release}, which serves now"
        return Ruling("keep", "not compared", f"{why}: run again")
    return None
