"""The verbs of a canary and of capture: `mirror`, `pairs`, `shared`, `capture`.

A canary is a part of a transaction, between the start of the new engine and the switch: when its session ends, in
whatever way, the transaction is undone and requests go to the champion alone. Capture outlives sessions: its record on
the target says that it is on, and every routing puts a mirror in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.agent.canary.captured import CapturedPrompts
from slipway.agent.changes import changing, owner_here
from slipway.agent.records import Fields
from slipway.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note
    from slipway.agent.haproxy.switcher import HAProxySwitcher
    from slipway.agent.switching import Switcher

_ASK = "bring agent and orchestrator to one version: set the target up again"
MOST_SHOWN = 1000


def mirror(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """`{"on": true, "timeout_s": 600}`: requests of the champion go to the started candidate too; `{"on": false}`: no
    more, when those under way are answered -> `{"status": what the mirror did so far, or null}`.

    Raises ConfigError without a transaction or a proxy, ResourceError when the champion or the candidate does not run.
    """
    fields = Fields(document, "request mirror", _ASK)
    opened = agent.transaction
    if opened is None:
        raise ConfigError("mirror", "no transaction is open", "`begin`, `stage` and `start` first", _ASK)
    switcher = with_proxy(opened.parts.switcher)
    serving = opened.parts.engines.endpoint(opened.intent.old) if opened.intent.old else None
    candidate = opened.parts.engines.endpoint(opened.intent.new)
    if serving is None or (candidate is None and fields.flag("on")):
        missing = "champion" if serving is None else "candidate"
        next_step = "where memory holds one engine only: deploy.canary.way=replay"
        raise ResourceError("mirror", f"no {missing} runs", "both, side by side", next_step)
    status = switcher.tee.status()
    if candidate is not None and fields.flag("on"):
        switcher.mirror(serving, candidate, fields.number("timeout_s", 600.0))
    else:
        switcher.restore(serving)
    return {"status": status}


def pairs(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """`{"most": 64}` -> `{"pairs": [...], "status": {...}, "candidate": whether its engine runs}`: each pair of answers
    once, the oldest first."""
    opened = agent.transaction
    if opened is None:
        raise ConfigError("pairs", "no transaction is open", "a mirror that runs", _ASK)
    switcher = with_proxy(opened.parts.switcher)
    most = Fields(document, "request pairs", _ASK).integer("most", 64)
    runs = opened.parts.engines.endpoint(opened.intent.new) is not None
    return {"pairs": switcher.tee.fetch(most), "status": switcher.tee.status(), "candidate": runs}


def shared(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """`{}` -> `{"champion": {...}, "candidate": {...}, "candidate_runs": ...}`: `requests`, `errors`, `total_ms` of the
    two engines, as HAProxy counted them since it started."""
    opened = agent.transaction
    if opened is None:
        raise ConfigError("shared", "no transaction is open", "a share that the candidate gets", _ASK)
    switcher = with_proxy(opened.parts.switcher)
    nothing = {"requests": 0, "errors": 0, "total_ms": 0}
    names = {"champion": opened.intent.old, "candidate": opened.intent.new}
    engines = {role: opened.parts.engines.endpoint(name) if name else None for role, name in names.items()}
    figures = {role: switcher.figures(engine) if engine else nothing for role, engine in engines.items()}
    return {**figures, "candidate_runs": engines["candidate"] is not None}


def capture(agent: Agent, document: Document, note: Note) -> Document:
    """`{"do": "on", "days", "megabytes"}`, `{"do": "off", "forget": true}`, `{"do": "show", "most": 20}` or
    `{"do": "status"}` -> `{"status": ...}`, with `prompts`, newest last, where they were asked for.

    Raises ConfigError where no proxy stands before the engines: there is nothing that sees a prompt.
    """
    fields = Fields(document, "request capture", _ASK)
    action = fields.text("do", pattern="on|off|show|status")
    prompts = CapturedPrompts(agent.paths.root / "capture")
    if action in ("show", "status"):
        rows = prompts.read(min(fields.integer("most", 20), MOST_SHOWN)) if action == "show" else []
        return {"status": prompts.status(), "prompts": rows}
    with changing(agent, document, f"capture {action}") as parts:
        switcher = with_proxy(parts.switcher)
        if action == "on":
            prompts.turn_on(fields.number("days"), fields.number("megabytes"), fields.text("owner", owner_here()))
        else:
            deleted = prompts.turn_off(forget=fields.flag("forget", False))
            note(f"{deleted} files of captured prompts deleted")
        name = parts.releases.current()
        switcher.restore(parts.engines.endpoint(name) if name else None)
        return {"status": prompts.status(), "prompts": []}


def with_proxy(switcher: Switcher) -> HAProxySwitcher:
    """The switcher of a target that has a proxy. Raises ConfigError for one that has none."""
    from slipway.agent.haproxy.switcher import HAProxySwitcher  # costs what a look at the target need not pay

    if isinstance(switcher, HAProxySwitcher):
        return switcher
    expected, next_step = "HAProxy before the engines", "install it; deploy.proxy.kind=haproxy"
    raise ConfigError("mirror", "clients reach the engine itself", expected, next_step)
