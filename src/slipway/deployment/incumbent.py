"""What a decision about a target looks at: what serves there, who chose it, who holds it; the ruling on a candidate.

The pointer is the truth. A rollback is a person's choice, whoever had asked for the release that serves again.
"""

from __future__ import annotations

import getpass
from pathlib import Path

from slipway.agent import holds
from slipway.config.deploy import DeployConfig
from slipway.deployment import state
from slipway.deployment.policy import Asked, Incumbent, Request, Ruling, ruling
from slipway.errors import ResourceError
from slipway.store.artifacts import Engine, Verdict
from slipway.store.lineage import lineage


def incumbent(params: DeployConfig) -> Incumbent | None:
    """The release that the pointer names, running or not, and who chose it; None before the first promotion."""
    now = state.status(params)
    release = now.release
    if release is None:
        return None
    rolled_back = now.last.get("action") == "rollback"
    chosen_by = "person" if rolled_back else release.asked.by if release.asked else None
    return Incumbent(release.name, release.model, release.digests["engine"], chosen_by)


def standing_holds(params: DeployConfig) -> list[str]:
    """A sentence for each hold on the whole target. Raises StateError when their record cannot be read."""
    return holds.sentences(holds.holds(Path(params.root).expanduser()))


def request(
    engine: Engine, verdict: Verdict, line: str, asked: Asked, params: DeployConfig, *, by_hand: bool
) -> Request:
    """What a candidate asks for, with what its verdict says of it."""
    others = {one.digest for one in lineage(verdict) if one.kind == Engine.kind} - {engine.digest}
    return Request(
        engine=engine.digest,
        line=line,
        outcome=str(verdict.read_json("verdict.json")["outcome"]),
        by=asked.by,
        by_hand=by_hand,
        compared_with=frozenset(others),
        withdrawn=state.was_withdrawn(params, engine),
    )


def rule_on(wanted: Request, params: DeployConfig) -> tuple[Ruling, Incumbent | None]:
    """The ruling on a candidate by what serves and holds just now, and what serves."""
    serving = incumbent(params)
    return ruling(wanted, serving, params.policy, standing_holds(params)), serving


def require_unchanged(ruled: Ruling, serving: Incumbent | None, wanted: Request, params: DeployConfig) -> None:
    """Raise ResourceError when, with the target locked, another release serves than was decided about, or another
    ruling is due."""
    now, serves = rule_on(wanted, params)
    if serves != serving or now != ruled:
        value = f"{serves.release if serves else 'nothing'} serves now: {now.reason}"
        expected = f"{serving.release if serving else 'nothing'}, as when it was decided"
        raise ResourceError(f"target {params.target}", value, expected, "run again: it is decided anew")


def this_user() -> str:
    """The name of the user of this process; empty where the system has none for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""
