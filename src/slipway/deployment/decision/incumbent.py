"""What a decision about a target looks at: what serves there, who chose it, who holds it; the ruling on a candidate.

The pointer is the truth. A rollback is a person's choice, whoever had asked for the release that serves again.
"""

from __future__ import annotations

import getpass

from slipway.agent.holds import sentences
from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.policy import Asked, Incumbent, Request, ruling
from slipway.deployment.decision.record import Decision, decision
from slipway.deployment.release_index import judged_index
from slipway.deployment.state import Status, status
from slipway.errors import ResourceError
from slipway.store.artifacts import Engine, Verdict
from slipway.store.lineage import digests, lineage


def incumbent(now: Status) -> Incumbent | None:
    """The release that the pointer names, running or not, and who chose it; None before the first promotion."""
    release = now.release
    if release is None:
        return None
    rolled_back = now.last.get("action") == "rollback"
    chosen_by = "person" if rolled_back else release.asked.by if release.asked else None
    return Incumbent(release.name, release.model, release.digests["engine"], chosen_by, release.index_digest)


def request(engine: Engine, verdict: Verdict, line: str, asked: Asked, now: Status) -> Request:
    """What a candidate asks for, with what its verdict and the target's history say of it."""
    judged = judged_index(verdict)
    index = judged.index.digest if judged else ""
    others = {one.digest for one in lineage(verdict) if one.kind == Engine.kind} - {engine.digest}
    return Request(
        engine=engine.digest,
        line=line,
        outcome=str(verdict.read_json("verdict.json")["outcome"]),
        by=asked.by,
        by_hand=asked.by_hand,
        named=asked.named,
        compared_with=frozenset(others),
        withdrawn=_withdrawn(engine.digest, index, now),
        index=index,
    )


def _withdrawn(engine: str, index: str, now: Status) -> bool:
    """Whether somebody rolled back from this engine with this index. Where no release of the engine that was left is on
    the target any more, nobody knows with which: it counts."""
    if engine[:8] not in now.withdrawn:
        return False
    line = set(now.document.get("line", ()))
    left = [one for one in now.records if one.digests["engine"] == engine and one.name not in line]
    return not left or any(one.index_digest == index for one in left)


def decide(
    engine: Engine,
    verdict: Verdict,
    line: str,
    asked: Asked,
    params: DeployConfig,
) -> Decision:
    """The record of the ruling on a candidate, by what serves and holds just now; nobody has approved anything yet."""
    now = status(params)
    held = sentences(now.document["holds"])
    serving = incumbent(now)
    ruled = ruling(request(engine, verdict, line, asked, now), serving, params.policy, held)
    return decision(
        ruled,
        serving,
        verdict,
        digests(engine, verdict),
        target=params.target,
        line=line,
        policy=params.policy,
        asked=asked,
        holds=held,
        routing=params.routed.model_dump(mode="json") if params.routed else None,
    )


def require_unchanged(decided: Decision, engine: Engine, verdict: Verdict, params: DeployConfig) -> None:
    """Raise ResourceError when, with the target locked, another release serves than was decided about, or another
    ruling is due."""
    now = decide(engine, verdict, decided.line, decided.asked, params)
    if (now.champion, now.ruling) != (decided.champion, decided.ruling):
        value = f"{now.champion.release if now.champion else 'nothing'} serves now: {now.ruling.reason}"
        expected = f"{decided.champion.release if decided.champion else 'nothing'}: {decided.ruling.reason}"
        raise ResourceError(f"target {params.target}", value, expected, "run again: it is decided anew")


def this_user() -> str:
    """The name of the user of this process; empty where the system has none for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
