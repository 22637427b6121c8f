"""What a run would replace at its target: what serves there now, whether a passing candidate may replace it, and what
that means for requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.holds import sentences
from slipway.config.load import Config
from slipway.deployment import state
from slipway.deployment.decision.incumbent import incumbent
from slipway.deployment.decision.policy import Request, Requester, ruling
from slipway.errors import SlipwayError
from slipway.store.artifacts import Engine

UNKNOWN = Engine(uri="", digest="")  # a candidate that is not made yet: it is no engine that serves


@dataclass(frozen=True)
class AtTarget:
    """What serves at a target and what would happen to it. `release`, `engine`: empty where nothing serves, or where
    nobody could be asked (`unasked` says why). `action`: replace, ask or keep, for a candidate that passes its gate;
    `requests`: what clients see of it. `index`: digest of the index that serves, empty where none does."""

    target: str
    release: str = ""
    line: str = ""
    engine: str = ""
    action: str = ""
    reason: str = ""
    requests: str = ""
    unasked: str = ""
    index: str = ""


def at_target(config: Config, candidate: Engine | None, by: Requester = "person", index: str = "") -> AtTarget:
    """What serves at `deploy.target`, and the ruling on a candidate of this run's line that passes. `index`: digest of
    the index that goes with it, `known.UNMADE` for one that is not made yet; empty for none."""
    deploy = config.deploy
    if deploy.target == "auto":
        return AtTarget("auto", unasked="the run chooses the target when it knows the model's size")
    try:
        now = state.status(deploy)
    except SlipwayError as err:
        return AtTarget(deploy.target, unasked=str(err))
    serving = incumbent(now)
    digest = candidate.digest if candidate else UNKNOWN.digest
    compared = frozenset({serving.engine} if serving else ())
    asked = Request(digest, config.line, "pass", by, compared_with=compared, index=index)
    ruled = ruling(asked, serving, deploy.policy, sentences(now.document["holds"]))
    return AtTarget(
        deploy.target,
        serving.release if serving else "",
        serving.line if serving else "",
        serving.engine if serving else "",
        ruled.action,
        ruled.reason,
        _requests(config, now) if serving and (serving.engine, serving.index) != (digest, index) else "",
        index=serving.index if serving else "",
    )


def rivals(config: Config, candidate: Engine | None) -> Mapping[str, Engine]:
    """Engines that the candidate will be compared with, by side: the champion, the best release of the line. None where
    the target cannot be asked or their bytes are gone."""
    engine = candidate or UNKNOWN
    if config.deploy.target == "auto":
        return {}
    try:
        releases = {
            "champion": state.rival(engine, config.line, config.deploy),
            "best": state.best_of_line(engine, config.line, config.deploy),
        }
        store = Path(config.store.root)
        return {side: release.engine(store) for side, release in releases.items() if release}
    except SlipwayError:
        return {}


def _requests(config: Config, now: state.Status) -> str:
    switching = now.document["switching"]
    if switching["address"] is None:
        return f"clients change the address: {switching['note']}"
    waits = f"requests wait while the engine starts, at most {config.deploy.proxy.hold_limit_s:.0f} s each"
    return {
        "held": waits,
        "beside": "no request waits: the candidate starts beside it",
        "auto": f"no request waits where memory holds both engines; else {waits}",
    }[config.deploy.way]
