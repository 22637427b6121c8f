"""The verbs that change a target outside of a transaction: `start_current`, `boot`, `stop`, `gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.agent.changes import changing, collect_layers, keep_start
from slipway.agent.holds import held_releases
from slipway.agent.looks import client_url
from slipway.agent.parts import Parts
from slipway.agent.records import Fields
from slipway.agent.transaction import tidy
from slipway.errors import ResourceError, SlipwayError, StateError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note


def start_current(agent: Agent, document: Document, note: Note) -> Document:
    """Start what the pointer names, when it does not run, after its bytes were checked -> `{"release": record, "url",
    "started": whether it had to be}`. `start`, `settings`, `owner`, `wait_s` as in the verbs of a transaction.

    Raises ResourceError when nothing was promoted yet; else as `start`.
    """
    with changing(agent, document, "start") as parts:
        if agent.transaction is None:
            _in_order(parts, note)
        name = parts.releases.current()
        if name is None:
            expected, next_step = "a release to start", "`slipway promote` makes one"
            raise ResourceError(f"target {agent.paths.root}", "nothing was promoted yet", expected, next_step)
        return {**_serve(parts, name, document, note), "release": parts.releases.read(name)}


def boot(agent: Agent, document: Document, note: Note) -> Document:
    """After the machine came up: what the pointer names serves again, with the same digest -> as `start_current`, or
    `{"release": null}` before the first promotion, or where the release's record is damaged. Again it changes nothing.

    Records that only changes need (history, journal, `release.json`) may be damaged: that is noted, and what the
    pointer names serves."""
    with changing(agent, document, "boot") as parts:
        _in_order(parts, note)
        name = parts.releases.current()
        if name is None:
            return {"release": None}
        serving = _serve(parts, name, document, note)
        try:
            return {"release": parts.releases.read(name), **serving}
        except StateError as err:
            note(f"{name} serves; {err}")
            return {"release": None, **serving}


def stop(agent: Agent, document: Document, note: Note) -> Document:
    """End every engine of the target, the serving one and leftovers; the pointer stays -> `{"stopped": [{"release",
    "pid", "url"}], "error": null}`.

    Engines end first: `error` is that of a record that cannot be read, met after them.
    """
    with changing(agent, document, "stop") as parts:
        rows = []
        for name in sorted({*parts.releases.names(), *parts.engines.running()}):
            for row in parts.engines.stop(name, parts.settings.stop_grace_s):
                rows.append(row)
                note(f"stopped {name}: pid {row['pid']}")
        error = None
        try:
            parts.switcher.stop()
            tidy(parts, note, restart=False)
        except SlipwayError as err:
            error = err.to_json()
        return {"stopped": rows, "error": error}


def gc(agent: Agent, document: Document, note: Note) -> Document:
    """Delete old releases: all but the newest `keep`, never the serving one, the previous one, those in `spare` or one
    that a hold names -> `{"pruned": names, "collected": digests}`, the latter of layers that no release names any more,
    arrived but never staged ones included; with `dry_run` true nothing is deleted, and `pruned` is what would be."""
    fields = Fields(document, "request gc", "give keep as a whole number")
    with changing(agent, document, "gc") as parts:
        tidy(parts, note)
        keep = max(2, fields.integer("keep", parts.settings.keep_releases))
        held = frozenset({*held_releases(agent.paths.root), *fields.texts("spare", ())})
        dry_run = fields.flag("dry_run", False)
        pruned = parts.releases.prune(keep, held, dry_run=dry_run)
        return {"pruned": pruned, "collected": [] if dry_run else collect_layers(agent, note, unstaged=True)}


def _in_order(parts: Parts, note: Note) -> None:
    """`tidy`; where a record that changes need is damaged, that is noted, and no engine but the pointer's goes on."""
    try:
        tidy(parts, note)
    except StateError as err:
        current = parts.releases.current()
        if current is None:
            raise
        parts.engines.endpoint(current)  # raises when the damaged record is that of the serving engine
        note(f"nothing but the start is done, the next change is refused: {err}")
        for name in {*parts.releases.names(), *parts.engines.running()} - {current}:
            parts.engines.stop(name, parts.settings.stop_grace_s)


def _serve(parts: Parts, name: str, document: Document, note: Note) -> Document:
    keep_start(parts, name, document)
    started = not parts.engines.healthy(name)
    if started:
        parts.engines.stop(name, parts.settings.stop_grace_s)
        parts.releases.check(name)
        note(f"restarted {name} at {parts.engines.start(name, parts.settings).url}")
    endpoint = parts.engines.endpoint(name)
    parts.switcher.restore(endpoint)
    return {"url": client_url(parts.switcher.describe(), endpoint), "started": started}
