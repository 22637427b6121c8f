"""A canary: the candidate beside its champion on real traffic, between the probe and the switch of a promotion.

    mirror    pairs of answers to the clients' own requests, which the champion answers; decided by `sequential_test`
    weight    a share of the requests for a time; the engine must live to its end
    replay    captured prompts asked of the champion before it ends and of the candidate after it started

A traffic share cannot tell two points of quality apart with a few users: 30,000 requests at a share of 10%. In pairs
600 to 1,200 do. What decides against the candidate raises GateError: the transaction is undone, the champion serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slipway.agent.engine_key import OPEN, EngineAccess, access_of
from slipway.config.canary import CanaryConfig
from slipway.deployment.canary.paired_answers import Judge, Tally, judge_of
from slipway.errors import EngineError, GateError, ResourceError
from slipway.evaluation.prediction_limits import most_again

if TYPE_CHECKING:
    from slipway.deployment.target import Document, Note, TargetClient

POLL_S, SAY_EVERY_S = 1.0, 60.0
FETCHED = 64
REPLAY_TOKENS = 512
_KEEPS = "the champion keeps serving"
Pair = dict[str, Any]


def run_canary(
    target: TargetClient, params: CanaryConfig, note: Note, *, sleep: Callable[[float], None] = time.sleep
) -> Document:
    """Try the started candidate of the open transaction as `params.way` says; the report as a document.

    Raises GateError when it is worse, fails, dies, or too little was seen to say; ConfigError for a target without
    HAProxy, ResourceError when no champion runs.
    """
    judge = judge_of(params.judge) if params.judge else None
    return (_weight if params.way == "weight" else _mirror)(target, params, judge, note, sleep)


class Trial:
    """The canary of one promotion, in its two places: before the candidate starts and after it was probed."""

    def __init__(self, target: TargetClient, params: CanaryConfig, note: Note) -> None:
        self._target, self._params, self._note = target, params, note
        self._asked: list[Pair] = []

    def before_start(self) -> None:
        """With way `replay`, ask the champion what was captured: its engine may end when the candidate starts. Raises
        GateError when nothing was captured, ResourceError when no champion runs."""
        if self._params.way != "replay":
            return
        rows = self._target.call("capture", {"do": "show", "most": self._params.prompts})["prompts"]
        prompts = [row for row in rows if isinstance(row["request"].get("messages"), list)]
        if left := len(rows) - len(prompts):
            self._note(f"canary: {left} captured requests are no chat and are left out")
        if not prompts:
            next_step = "`slipway capture on TARGET` and wait for requests, or deploy.canary.way=none"
            raise GateError("canary", "no captured prompts", "some to ask both engines", next_step)
        endpoint = self._target.call("status", {})["endpoint"]
        if endpoint is None:
            raise ResourceError("canary", "no champion runs", "one to compare with", "`slipway start TARGET`")
        self._note(f"canary: {len(prompts)} captured prompts are asked of the champion")
        with self._target.reach(endpoint) as url:
            access = access_of(endpoint)
            self._asked = replay_pairs(prompts, url, endpoint["model"], self._params.answer_s, access)

    def after_probe(self, url: str, model: str, access: EngineAccess = OPEN) -> Document:
        """The report under `canary`; empty where no canary is asked for. `access`: how the candidate is asked. Raises
        as `run_canary`."""
        if self._params.way == "none":
            return {}
        if self._params.way == "replay":
            now = replay_pairs(self._asked, url, model, self._params.answer_s, access)
            return {"canary": judge_replay(self._asked, now, self._params, self._note)}
        return {"canary": run_canary(self._target, self._params, self._note)}


def replay_pairs(
    asked: Sequence[Pair], url: str, model: str, timeout_s: float, access: EngineAccess = OPEN
) -> list[Pair]:
    """Ask the engine at `url`, as `access` says, the requests of captured prompts: `{"request", "answer"}` each, the
    answer with status, text and reason as the mirror has them."""
    from slipway.engines.chat_client import ChatClient

    rows = []
    client = ChatClient(url, model, timeout_s, retries=1, key=access.key or None, context=access.context())
    with client:
        for one in asked:
            request = one["request"]
            most = min(int(request.get("max_tokens") or REPLAY_TOKENS), REPLAY_TOKENS)
            try:
                reply = client.ask(request["messages"], most, tools=request.get("tools") or ())
                calls = "".join(call["name"] + call["arguments"] for call in reply.calls)
                answer = {"status": 200, "text": reply.reasoning + reply.text + calls, "reason": ""}
            except EngineError as err:
                answer = {"status": 0, "text": "", "reason": str(err.value)[:200]}
            rows.append({"request": request, "answer": answer})
    return rows


def judge_replay(champion: Sequence[Pair], candidate: Sequence[Pair], params: CanaryConfig, note: Note) -> Document:
    """The report on answers to the same prompts. Raises GateError as `run_canary`."""
    judge = judge_of(params.judge) if params.judge else None
    tally = Tally()
    for then, now in zip(champion, candidate, strict=True):
        tally.add({"request": then["request"], "champion": then["answer"], "candidate": now["answer"]}, judge)
    return _decided(tally, params, judge, note, {})


def _mirror(
    target: TargetClient, params: CanaryConfig, judge: Judge | None, note: Note, sleep: Callable[[float], None]
) -> Document:
    tally, ends, noted_at = Tally(), time.monotonic() + params.for_s, time.monotonic()
    status: Document = {}
    target.call("mirror", {"on": True, "timeout_s": params.answer_s}, note)
    note(f"canary: the candidate gets a copy of each request, for {params.for_s:g} s at most")
    try:
        while time.monotonic() < ends:
            fetched = target.call("pairs", {"most": FETCHED})
            status = fetched["status"] or status
            for pair in fetched["pairs"]:
                tally.add(pair, judge)
            if not fetched["candidate"]:
                raise GateError("canary", "the candidate died", "an engine that lives", f"{_KEEPS}; read engine.log")
            if any(one.outcome != "not_enough" for one in _that_decide(tally, params)):
                break
            if time.monotonic() - noted_at >= SAY_EVERY_S:
                noted_at = time.monotonic()
                note(f"canary: {tally.figures()}")
            if not fetched["pairs"]:
                sleep(POLL_S)
    finally:
        target.call("mirror", {"on": False}, note)
    return _decided(tally, params, judge, note, status)


def _that_decide(tally: Tally, params: CanaryConfig) -> list[Any]:
    """What ends a mirror early: failures that are too many, and the judged pairs."""
    failures, quality = tally.looks(params)
    return [quality, *([failures] if failures.outcome == "worse" else [])]


def _decided(tally: Tally, params: CanaryConfig, judge: Judge | None, note: Note, status: Document) -> Document:
    failures, quality = tally.looks(params)
    report = {
        "way": params.way,
        "outcome": quality.outcome,
        "quality": quality.document(),
        "failures": failures.document(),
        **tally.figures(),
        "mirror": {name: value for name, value in status.items() if name not in ("pid", "port", "config")},
    }
    if failures.outcome == "worse":
        value = f"{failures.counts.losses} of {failures.counts.pairs} answers failed: {tally.reason}"
        raise GateError("canary", value, "no more failures than the champion's", _KEEPS)
    if quality.outcome == "worse":
        value = f"{tally.quality.losses} pairs lost, {tally.quality.wins} won, {tally.quality.ties} tied"
        raise GateError("canary", value, f"no worse than by {params.margin:g}; {tally.worst}", _KEEPS)
    if quality.outcome == "not_enough":
        raise _inconclusive(tally, quality.more, judge)
    note(f"canary: {report['outcome']} after {tally.compared} pairs, {tally.equal} of them equal")
    return report


def _inconclusive(tally: Tally, more: int | None, judge: Judge | None) -> GateError:
    """A canary that was asked for and did not decide promotes nothing."""
    value = f"inconclusive: {tally.compared} pairs are not enough"
    value += f": about {more} more would decide" if more else ": no number of such pairs would decide"
    if tally.unjudged:
        value += f"; {tally.unjudged} unequal answers were judged by nobody"
        value += f" ({tally.reason})" if tally.reason else ""
    longer = "let it run longer (deploy.canary.for_s)"
    next_step = "name a judge (deploy.canary.judge)" if tally.unjudged and judge is None else longer
    return GateError("canary", value, "a decision", f"{_KEEPS}; {next_step}, or promote without a canary")


def _weight(
    target: TargetClient,
    params: CanaryConfig,
    judge: Judge | None,  # noqa: ARG001 (a share is judged by nobody)
    note: Note,
    sleep: Callable[[float], None],
) -> Document:
    ends = time.monotonic() + params.for_s
    target.call("share", {"percent": params.share}, note)
    note(f"canary: {params.share}% of the requests go to the candidate, for {params.for_s:g} s")
    while True:  # an error ends the transaction, which takes the share back
        seen = target.call("shared", {})
        if not seen["candidate_runs"]:
            raise GateError("canary", "the candidate died", "an engine that lives", f"{_KEEPS}; read engine.log")
        if (left := ends - time.monotonic()) <= 0:
            break
        sleep(min(POLL_S, left))
    target.call("share", {"percent": 0}, note)
    candidate, champion = seen["candidate"], seen["champion"]
    limit = most_again(champion["errors"], champion["requests"], candidate["requests"], params.alpha)
    if candidate["errors"] > limit:
        value = f"{candidate['errors']} of {candidate['requests']} requests failed"
        expected = f"at most {limit}: the champion failed in {champion['errors']} of {champion['requests']}"
        raise GateError("canary", value, expected, _KEEPS)
    if not candidate["requests"]:
        next_step = f"{_KEEPS}; let it run longer (deploy.canary.for_s), or promote without a canary"
        raise GateError("canary", "inconclusive: the candidate got no request", "some that it answers", next_step)
    note(f"canary: lived, {candidate['requests']} requests by the candidate; this says nothing of quality")
    return {"way": "weight", "outcome": "lived", "limit": limit, **seen}
