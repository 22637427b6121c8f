"""Every verb of the agent by name; ADR 44 says what they mean together.

Short because a verb is one row here and a function beside what it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from slipway.agent import looks
from slipway.agent.holds import hold_verb, holds_verb, unhold_verb

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note, Verb


def holder(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """`{"lock": ...}`: who changes the target now, as `TargetLock.holder` says it; null when nobody does."""
    return {"lock": agent.lock.holder()}


def later(module: str, name: str) -> Verb:
    """The function `name` of a module of this room as a verb; the module is loaded by the first call, because a look at
    a target (`status`) needs none of these."""

    def verb(agent: Agent, document: Document, note: Note) -> Document:
        function: Verb = getattr(import_module(f"slipway.agent.{module}"), name)
        return function(agent, document, note)

    verb.__qualname__ = f"{module}.{name}"
    return verb


VERBS: Mapping[str, Verb] = {
    "abort": later("changes", "abort"),
    "begin": later("changes", "begin"),
    "boot": later("serving", "boot"),
    "capture": later("canary.verbs", "capture"),
    "collect": later("bundle.verbs", "collect"),
    "commit": later("changes", "commit"),
    "document": looks.document,
    "follow": later("slurm.engines", "follow"),
    "gc": later("serving", "gc"),
    "gpu_limits": later("gpu_limits", "gpu_limits"),
    "hold": hold_verb,
    "holder": holder,
    "holds": holds_verb,
    "mirror": later("canary.verbs", "mirror"),
    "missing": later("bundle.verbs", "missing"),
    "pairs": later("canary.verbs", "pairs"),
    "probe": later("probe", "probe"),
    "receive": later("bundle.verbs", "receive"),
    "share": later("changes", "share"),
    "shared": later("canary.verbs", "shared"),
    "stage": later("changes", "stage"),
    "start": later("changes", "start"),
    "start_current": later("serving", "start_current"),
    "status": looks.status,
    "stop": later("serving", "stop"),
    "switch": later("changes", "switch"),
    "unhold": unhold_verb,
    "verify": later("bundle.verbs", "verify"),
    "versions": looks.versions,
}
