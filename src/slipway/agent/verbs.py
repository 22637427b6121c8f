"""Every verb of the agent by name; ADR 44 says what they mean together.

Short because a verb is one row here and a function beside what it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slipway.agent import changes, serving
from slipway.agent.bundle_verbs import missing, receive, verify
from slipway.agent.canary import capture, mirror, pairs, shared
from slipway.agent.holds import hold_verb, holds_verb, unhold_verb
from slipway.agent.probe import probe
from slipway.agent.slurm_engines import follow

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note, Verb


def holder(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """`{"lock": ...}`: who changes the target now, as `TargetLock.holder` says it; null when nobody does."""
    return {"lock": agent.lock.holder()}


VERBS: Mapping[str, Verb] = {
    "abort": changes.abort,
    "begin": changes.begin,
    "boot": serving.boot,
    "capture": capture,
    "commit": changes.commit,
    "document": serving.document,
    "follow": follow,
    "gc": serving.gc,
    "hold": hold_verb,
    "holder": holder,
    "holds": holds_verb,
    "mirror": mirror,
    "missing": missing,
    "pairs": pairs,
    "probe": probe,
    "receive": receive,
    "share": changes.share,
    "shared": shared,
    "stage": changes.stage,
    "start": changes.start,
    "start_current": serving.start_current,
    "status": serving.status,
    "stop": serving.stop,
    "switch": changes.switch,
    "unhold": unhold_verb,
    "verify": verify,
    "versions": serving.versions,
}
