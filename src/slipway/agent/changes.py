"""The verbs of a transaction: `begin`, `stage`, `start`, `switch`, `commit`, `abort`.

`begin` takes the target's lock and keeps it until `commit` or `abort`, or until the agent is closed.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.agent.artifact import require_intact
from slipway.agent.bundle import release as bundle_release
from slipway.agent.history import PROMOTE, ROLLBACK
from slipway.agent.holds import held_releases
from slipway.agent.parts import Parts, parts_of
from slipway.agent.paths import DIGEST, INDEX
from slipway.agent.records import Fields
from slipway.agent.releases import RECORD, carried_index, link_engine
from slipway.agent.settings import write_settings
from slipway.agent.start_plan import FILE as START
from slipway.agent.start_plan import parse_start
from slipway.agent.transaction import Transaction, tidy
from slipway.errors import ConfigError, ResourceError, SlipwayError, StateError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

LOCK_WAIT_S = 300.0
_ASK = "bring agent and orchestrator to one version: set the target up again"


def owner_here() -> str:
    """Who changes a target when nobody says it: `user@host (pid 4711)`."""
    return f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})"


@contextmanager
def changing(agent: Agent, document: Document, action: str) -> Iterator[Parts]:
    """The target's parts with its lock held for the block; within an open transaction the lock is held already.

    `document` may hold `owner`, `wait_s` (seconds to wait for another holder) and `settings`, which are kept.
    """
    fields = Fields(document, f"request {action}", _ASK)
    if held := agent.lock.held:
        yield agent.transaction.parts if agent.transaction else parts_of(agent.paths)
        return
    agent.lock.acquire(fields.text("owner", owner_here()), action, fields.number("wait_s", LOCK_WAIT_S))
    try:
        yield _parts(agent, document)
    finally:
        if not held:
            agent.lock.release()


def begin(agent: Agent, document: Document, note: Note) -> Document:
    """Take the lock, put in order what a crash left, and open the journal.

    `{"action": "promote", "engine": digest, "index": digest or null}` or `{"action": "rollback", "release": name or
    null: the previous}`, and `owner`, `wait_s`, `settings` -> `{"current": record or null, "new": name or null, "path":
    its folder or null}`. `current` is null for a rollback: it leaves a release whose record is damaged too. `new` is
    null when engine and index to promote are the serving ones: nothing is open but the lock, for `start_current` and
    `abort`.
    Raises ResourceError for a busy target and when nothing can come back, CheckpointError for damaged bytes, and what
    is wrong with the proxy's settings.
    """
    if agent.lock.held:
        raise ConfigError("transaction", "one is open in this session", "its commit or abort first", _ASK)
    fields = Fields(document, "request begin", _ASK)
    action = fields.text("action", pattern=f"{PROMOTE}|{ROLLBACK}")
    digest = fields.text("engine", pattern=DIGEST) if action == PROMOTE else ""
    index = fields.text("index", "", pattern=f"({DIGEST})?")
    owner = fields.text("owner", owner_here())
    doing = f"promotion of {digest[:12]}" if digest else "rollback"
    agent.lock.acquire(owner, doing, fields.number("wait_s", LOCK_WAIT_S))
    try:
        parts = _parts(agent, document)
        tidy(parts, note)
        live = parts.releases.current()
        current = parts.releases.read(live) if live and digest else None
        if current is not None and (current["digests"]["engine"], carried_index(current)) == (digest, index):
            return {"current": current, "new": None, "path": None}
        wanted = fields.text("release", "")
        new = parts.releases.next_name(digest) if digest else _returning(parts, wanted, agent.paths.root)
        parts.switcher.require()
        agent.transaction = Transaction.begin(parts, action, new, owner, note)
        return {"current": current, "new": new, "path": str(parts.releases.dir(new))}
    except BaseException:
        agent.lock.release()
        raise


def stage(agent: Agent, document: Document, note: Note) -> Document:
    """Make the new release: `{"engine": {"path": folder}}` links an artifact of this machine, `{"manifest": digest}`,
    with `signature` and `files_signature`, a bundle that was received; `release` is its record (model, digests, runs,
    outcome, ...), `start` its start plan, `documents` its other files by name -> `{"release": record}`. Where the
    record names an index (`retrieval`), every byte of it is there, or CheckpointError is raised.
    """
    opened = _open(agent)
    name, parts = opened.intent.new, opened.parts
    fields = Fields(document, "request stage", _ASK)
    start = fields.document("start", {})
    if start:
        parse_start(start, "start plan of the request")
    record = {**fields.document("release"), "name": name, "path": str(parts.releases.dir(name))}
    record["created"] = opened.intent.time
    documents = {**fields.text_map("documents", {}), RECORD: json.dumps(record, indent=1) + "\n"}
    documents |= {START: json.dumps(start, indent=1) + "\n"} if start else {}
    with parts.journal.step("staged"):
        parts.releases.stage(name, _filler(agent, fields), documents)
    note(f"staged {name}")
    with parts.journal.step("verified"):
        parts.releases.check(name)
        if index := carried_index(record):
            require_intact(parts.releases.dir(name) / INDEX, index, f"index of {name}")
    return {"release": parts.releases.read(name)}


def start(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (the transaction has its note)
    """Start the new release's engine and wait for its health -> its endpoint. `{"start": plan}` replaces its start
    plan, as for a release of an earlier version. A release that comes back is verified first."""
    opened = _open(agent)
    name, parts = opened.intent.new, opened.parts
    if not opened.intent.created:
        with parts.journal.step("verified"):
            parts.releases.check(name)
    keep_start(parts, name, document)
    return opened.start().to_json()


def switch(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """Send requests to the new engine and move the pointer. `{"smoke": [...], "checks": {...}}`, what the orchestrator
    asked of it, is kept in the release's record -> `{"drained": {...}}`."""
    opened = _open(agent)
    name, parts = opened.intent.new, opened.parts
    fields = Fields(document, "request switch", _ASK)
    with parts.journal.step("checked"):
        record = parts.releases.read(name)
        record["smoke"] = list(fields.objects("smoke", ()))
        record |= {"checks": fields.document("checks")} if "checks" in document else {}
        parts.releases.write(name, RECORD, record)
    return {"drained": opened.switch()}


def share(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """Between `start` and `switch`: `{"percent": 10}` of the new requests go to the new engine, the others to the old
    one; 0 takes them back -> `{"percent": 10}`. Raises ResourceError without a proxy, and when either does not run."""
    opened = _open(agent)
    percent = Fields(document, "request share", _ASK).integer("percent")
    if not 0 <= percent <= 100:
        raise ConfigError("request share", f"percent: {percent}", "0 to 100", _ASK)
    endpoints = [
        opened.parts.engines.endpoint(name) if name else None for name in (opened.intent.old, opened.intent.new)
    ]
    serving, candidate = endpoints
    if serving is None or candidate is None:
        raise ResourceError("share of the requests", "one engine runs", "two", "`start` first, beside one that serves")
    opened.parts.switcher.share(serving, candidate, percent)
    return {"percent": percent}


def commit(agent: Agent, document: Document, note: Note) -> Document:
    """Record the switch, end the old engine, prune; gives the lock back -> `{"release": record, "pruned": names}`.

    `{"spare": names}`: releases that are not pruned, beside those that a hold names."""
    opened = _open(agent)
    parts = opened.parts
    opened.commit()
    agent.transaction = None
    pruned = []
    if opened.intent.action == PROMOTE:
        pruned = _prune(agent, parts, Fields(document, "request commit", _ASK).texts("spare", ()), note)
    release = parts.releases.read(opened.intent.new)
    agent.lock.release()
    return {"release": release, "pruned": pruned}


def abort(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """End what is open: undone before its record, finished from there on -> `{}`. Nothing is open: nothing is done."""
    opened, agent.transaction = agent.transaction, None
    try:
        if opened is not None and opened.parts.journal.is_open():
            opened.note = note
            opened.settle()
    finally:
        agent.lock.release()
    return {}


def _prune(agent: Agent, parts: Parts, spare: tuple[str, ...], note: Note) -> list[str]:
    """Delete old releases and their layers; names of the releases. The switch is done: where nobody can tell what is
    held, nothing is deleted, and that is said."""
    try:
        held = held_releases(agent.paths.root)
    except StateError as err:
        note(f"old releases stay: {err}")
        return []
    pruned = parts.releases.prune(parts.settings.keep_releases, frozenset({*held, *spare}))
    for name in pruned:
        note(f"pruned {name}")
    collect_layers(agent, note)
    return pruned


def collect_layers(agent: Agent, note: Note, *, unstaged: bool = False) -> list[str]:
    """Remove layers that no release names any more; their digests. Where a record that names them cannot be read, all
    stay, and that is said. `unstaged`: as of `bundle_release.collect`."""
    try:
        gone = bundle_release.collect(agent.paths.root, agent.paths.releases, unstaged=unstaged)
    except SlipwayError as err:
        note(f"layers stay: {err}")
        return []
    if gone:
        note(f"removed {len(gone)} layers and documents of older bundles")
    return gone


def keep_start(parts: Parts, name: str, document: Document) -> None:
    """Write the start plan that a request brings, if it brings one. Raises StateError when it is none."""
    plan = Fields(document, "request start", _ASK).document("start", {})
    if plan:
        parse_start(plan, "start plan of the request")
        parts.releases.write(name, START, plan)


def _parts(agent: Agent, document: Document) -> Parts:
    """The target's parts under the settings of a request, which are kept; under the last ones when it brings none."""
    agent.paths.releases.mkdir(parents=True, exist_ok=True)
    settings = Fields(document, "request", _ASK).document("settings", {})
    return parts_of(agent.paths, write_settings(agent.paths, settings) if settings else None)


def _returning(parts: Parts, wanted: str, root: Path) -> str:
    """The release that a rollback brings back. Raises ResourceError when there is none, or not the one wanted."""
    names = parts.releases.returnable()
    if wanted:
        same = [name for name in names if _is_meant(name, wanted)]
        if not same:
            for name in filter(lambda name: _is_meant(name, wanted), parts.releases.names()):
                parts.releases.read(name)  # a damaged record is the reason, and says so
            can = ", ".join(names) or "none"
            next_step = "`slipway rollback TARGET --list` shows them with dates"
            raise ResourceError(
                f"rollback of {root} to {wanted[:100]}", "it cannot come back", f"one of {can}", next_step
            )
        return same[0]
    if not names:
        expected, next_step = "a release that served before", "promote another engine instead"
        raise ResourceError(f"rollback of target {root}", "no previous release", expected, next_step)
    return names[0]


def _is_meant(name: str, wanted: str) -> bool:
    """Whether a release's name, or its number alone, is what was asked for."""
    return name == wanted or name.split("-")[0].lstrip("0") == wanted.lstrip("0")


def _filler(agent: Agent, fields: Fields) -> Callable[[Path], None]:
    """What makes the engine's folder in the new release."""
    if fields.text("manifest", ""):
        words = ("manifest", "signature", "files_signature")
        request = {word: fields.text(word, "") for word in words}
        return lambda folder: _stage_bundle(agent.paths.root, request, folder)
    source = Path(Fields(fields.document("engine"), "request stage, engine", _ASK).text("path"))
    return lambda folder: link_engine(source, folder / "engine")


def _stage_bundle(root: Path, request: dict[str, str], folder: Path) -> None:
    bundle_release.stage(root, request, folder)


def _open(agent: Agent) -> Transaction:
    if agent.transaction is None:
        raise ConfigError("transaction", "none is open", "`begin` first", _ASK)
    return agent.transaction
