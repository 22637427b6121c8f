"""The verbs beside a transaction: `status`, `versions`, `start_current`, `boot`, `stop`, `gc`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from slipway.agent.bundle.release import collect
from slipway.agent.changes import changing, keep_start
from slipway.agent.holds import held_releases, holds
from slipway.agent.paths import NAME
from slipway.agent.records import Fields, is_present, read_text
from slipway.agent.releases import document_name
from slipway.agent.transaction import Parts, parts_of, tidy
from slipway.errors import ResourceError, SlipwayError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note
    from slipway.agent.engines import Endpoint


def status(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """What the target serves now; reads only, takes no lock -> `current` (record or null), `url` (null while no engine
    runs), `healthy` (asked just now), `previous`, `releases` (records, oldest first), `withdrawn`, `line` (releases
    that led to the serving one), `last` (switch),
    `lost` (releases whose engine runs and should not), `switching`, `interrupted` (what a transaction
    left, or null), `lock`, `holds`.

    Raises StateError when a record cannot be read.
    """
    parts = parts_of(agent.paths)
    name, names = parts.releases.current(), parts.releases.names()
    records = {each: parts.releases.read(each) for each in names}
    endpoint = parts.engines.endpoint(name) if name else None
    switches = parts.releases.history.switches()
    opened = parts.journal.read() if agent.lock.holder() is None else None
    running = parts.engines.running()
    return {
        "current": records[name] if name else None,
        "endpoint": endpoint.to_json() if endpoint else None,
        "url": _url(parts, endpoint),
        "healthy": parts.engines.healthy(name) if name else False,
        "previous": parts.releases.previous(),
        "releases": list(records.values()),
        "last": asdict(switches[-1]) if switches else None,
        "line": parts.releases.history.line(),
        "withdrawn": sorted(parts.releases.history.withdrawn()),
        "lost": [{"release": each, "gone": each not in names} for each in running if each != name],
        "switching": {**parts.switcher.describe(), "way": parts.settings.way},
        "interrupted": {"action": opened[0].action, "release": opened[0].new, "by": opened[0].owner}
        if opened
        else None,
        "lock": agent.lock.holder(),
        "holds": holds(agent.paths.root),
    }


def document(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """A text of a release: `{"release": name, "document": "smoke.jsonl"}` -> `{"text": ...}`. Raises StateError when it
    is absent, but for `{"optional": true}` -> `{"text": null}`, or no text."""
    fields = Fields(document, "request document", "name a release and a document of it")
    name = fields.text("release", pattern=NAME)
    file = agent.paths.release(name) / document_name(fields.text("document"))
    if fields.flag("optional", False) and not is_present(file):
        return {"text": None}
    return {"text": read_text(file, f"document of release {name}", "promote its engine again")}


def versions(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """`{"versions": [...]}`, newest first: `name`, `created`, `model`, `engine`, `served` (times of its switches), and
    `state`: `serving`, `previous` (what a rollback goes to), `returnable` or `left` (only a promotion brings it back).
    Takes no lock."""
    parts = parts_of(agent.paths)
    current, returnable = parts.releases.current(), parts.releases.returnable()
    switches = parts.releases.history.switches()
    rows = []
    for name in reversed(parts.releases.names()):
        record = parts.releases.read(name)
        states = {name: "left", **dict.fromkeys(returnable, "returnable"), **dict.fromkeys(returnable[:1], "previous")}
        rows.append(
            {
                "name": name,
                "created": record["created"],
                "model": record["model"],
                "engine": record["digests"]["engine"],
                "served": [switch.time for switch in switches if switch.release == name],
                "state": "serving" if name == current else states[name],
            }
        )
    return {"versions": rows}


def start_current(agent: Agent, document: Document, note: Note) -> Document:
    """Start what the pointer names, when it does not run, after its bytes were checked -> `{"release": record, "url",
    "started": whether it had to be}`. `start`, `settings`, `owner`, `wait_s` as in the verbs of a transaction.

    Raises ResourceError when nothing was promoted yet; else as `start`.
    """
    with changing(agent, document, "start") as parts:
        if agent.transaction is None:
            tidy(parts, note)
        name = parts.releases.current()
        if name is None:
            expected, next_step = "a release to start", "`slipway promote` makes one"
            raise ResourceError(f"target {agent.paths.root}", "nothing was promoted yet", expected, next_step)
        return _started(parts, name, document, note)


def boot(agent: Agent, document: Document, note: Note) -> Document:
    """After the machine came up: what the pointer names serves again, with the same digest -> as `start_current`, or
    `{"release": null}` before the first promotion. Again it changes nothing."""
    with changing(agent, document, "boot") as parts:
        tidy(parts, note)
        name = parts.releases.current()
        return _started(parts, name, document, note) if name else {"release": None}


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
        paths = agent.paths
        return {"pruned": pruned, "collected": [] if dry_run else collect(paths.root, paths.releases, unstaged=True)}


def _started(parts: Parts, name: str, document: Document, note: Note) -> Document:
    keep_start(parts, name, document)
    started = not parts.engines.healthy(name)
    if started:
        parts.engines.stop(name, parts.settings.stop_grace_s)
        parts.releases.check(name)
        note(f"restarted {name} at {parts.engines.start(name, parts.settings).url}")
    endpoint = parts.engines.endpoint(name)
    parts.switcher.restore(endpoint)
    return {"release": parts.releases.read(name), "url": _url(parts, endpoint), "started": started}


def _url(parts: Parts, endpoint: Endpoint | None) -> str | None:
    """Where clients reach the API; None while no engine runs."""
    return (parts.switcher.describe()["address"] or endpoint.url) if endpoint else None
