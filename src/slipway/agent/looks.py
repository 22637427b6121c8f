"""The verbs that look at a target and change nothing: `status`, `document`, `versions`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from slipway.agent.holds import holds
from slipway.agent.parts import parts_of
from slipway.agent.paths import NAME
from slipway.agent.records import Fields, is_present, read_text
from slipway.agent.releases import document_name
from slipway.errors import StateError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note
    from slipway.agent.engines import Endpoint
    from slipway.agent.history import Switch


def status(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """What the target serves now; reads only, takes no lock -> `current` (record or null), `url` (null while no engine
    runs), `healthy` (asked just now), `previous`, `releases` (records, oldest first), `withdrawn`, `line` (releases
    that led to the serving one), `last` (switch),
    `lost` (releases whose engine runs and should not), `switching`, `interrupted` (what a transaction
    left, or null), `lock`, `holds`, `pointer` (name of the serving release), `damaged`.

    `damaged`: a row for each record that cannot be read and is passed over above: `{"record": "release.json",
    "release": name or null, "decides": true, "error": {...}}`; `decides`: nobody can tell without it who may be
    replaced by what, as the serving release's, history, journal or holds. Raises StateError when pointer, settings or
    the serving engine's endpoint cannot be read: then nobody can tell what serves.
    """
    parts = parts_of(agent.paths)
    name, names = parts.releases.current(), parts.releases.names()
    records, unreadable = parts.releases.records()
    damaged = [_damaged("release.json", err, each, decides=each == name) for each, err in unreadable.items()]
    endpoint = parts.engines.endpoint(name) if name else None
    history = parts.releases.history
    switches: list[Switch] = []
    line: list[str] = []
    withdrawn: set[str] = set()
    opened, held = None, []
    try:
        switches, line, withdrawn = history.switches(), history.line(), history.withdrawn()
    except StateError as err:
        damaged.append(_damaged("history.jsonl", err))
    try:
        opened = parts.journal.read() if agent.lock.holder() is None else None
    except StateError as err:
        damaged.append(_damaged("journal.jsonl", err))
    try:
        held = holds(agent.paths.root)
    except StateError as err:
        damaged.append(_damaged("holds.json", err))
    running, proxy = parts.engines.running(), parts.switcher.describe()
    return {
        "pointer": name,
        "damaged": damaged,
        "current": records.get(name) if name else None,
        "endpoint": endpoint.to_json() if endpoint else None,
        "url": client_url(proxy, endpoint),
        "healthy": parts.engines.healthy(name) if name else False,
        "previous": parts.releases.previous() if line else None,
        "releases": list(records.values()),
        "last": asdict(switches[-1]) if switches else None,
        "line": line,
        "withdrawn": sorted(withdrawn),
        "lost": [{"release": each, "gone": each not in names} for each in running if each != name],
        "switching": {**proxy, "way": parts.settings.way},
        "interrupted": {"action": opened[0].action, "release": opened[0].new, "by": opened[0].owner}
        if opened
        else None,
        "lock": agent.lock.holder(),
        "holds": held,
    }


def _damaged(record: str, err: StateError, release: str | None = None, *, decides: bool = True) -> Document:
    """A row of `status` about a record that cannot be read."""
    return {"record": record, "release": release, "decides": decides, "error": err.to_json()}


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
    `state`: `serving`, `previous` (what a rollback goes to), `returnable`, `left` (only a promotion brings it back) or
    `damaged` (its record cannot be read: `error` says why, of the others only the name is known). Takes no lock."""
    parts = parts_of(agent.paths)
    current, returnable = parts.releases.current(), parts.releases.returnable()
    switches = parts.releases.history.switches()
    rows = []
    records, damaged = parts.releases.records()
    for name in reversed(parts.releases.names()):
        served = [switch.time for switch in switches if switch.release == name]
        if name in damaged:
            blank = dict.fromkeys(("created", "model", "engine"), "")
            rows.append({"name": name, **blank, "served": served, "state": "damaged", "error": str(damaged[name])})
            continue
        record = records[name]
        states = {name: "left", **dict.fromkeys(returnable, "returnable"), **dict.fromkeys(returnable[:1], "previous")}
        rows.append(
            {
                "name": name,
                "created": record["created"],
                "model": record["model"],
                "engine": record["digests"]["engine"],
                "served": served,
                "state": "serving" if name == current else states[name],
            }
        )
    return {"versions": rows}


def client_url(proxy: Document, endpoint: Endpoint | None) -> str | None:
    """Where clients reach the API, by what `Switcher.describe` says of the proxy; None while no engine runs."""
    return (proxy["address"] or endpoint.url) if endpoint else None
