"""A switch from one release to another, step by step, each in the journal before and after it.

    begun                                  lock held, what a crash left put in order, the journal opened
    staged, verified                       the new release on the disk, its bytes checked
    held                                   where memory holds one engine only: requests wait, the old engine ends
    started                                the new engine answers its health
    checked                                what the orchestrator asked it is written down
    configured, switched, drained          requests go to the new engine
    pointed, recorded                      the pointer names it, the history says so: from here there is no way back
    stopped, done                          the old engine ends; old releases are pruned

Before `recorded` an error, the end of the session or the next session after a crash undoes it all: the champion serves.
From `recorded` on they finish it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import cached_property

from slipway.agent.engines import Endpoint, Engines
from slipway.agent.history import PROMOTE
from slipway.agent.journal import Intent, Journal
from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.agent.room import BESIDE, HELD, choose_way, room
from slipway.agent.settings import Settings, read_settings
from slipway.agent.slurm.engines import engines_for
from slipway.agent.switching import Switcher, switcher_for
from slipway.errors import EngineError, SlipwayError

Note = Callable[[str], None]


class Parts:
    """What a transaction moves: the parts of one target under its settings."""

    def __init__(self, paths: TargetPaths, settings: Settings) -> None:
        self.paths, self.settings = paths, settings
        self.releases, self.journal = Releases(paths), Journal(paths.journal)
        self.engines: Engines = engines_for(paths, settings)

    @cached_property
    def switcher(self) -> Switcher:
        """What stands before the engines. Raises, when it is first needed, what `switcher_for` raises: a proxy that
        cannot be keeps nobody from ending the engines."""
        return switcher_for(self.paths, self.settings)


def parts_of(paths: TargetPaths, settings: Settings | None = None) -> Parts:
    """The parts of a target. Raises StateError when its settings are damaged."""
    return Parts(paths, settings or read_settings(paths))


def died(release: str) -> EngineError:
    """The engine of a release ended while it was needed."""
    return EngineError(f"release {release}", "its engine died", "an engine to ask", "read engine.log in its folder")


class Transaction:
    """One open transaction; its caller holds the target's lock."""

    def __init__(self, parts: Parts, intent: Intent, note: Note) -> None:
        self.parts, self.intent, self.note = parts, intent, note
        self._held: dict[str, object] = {}

    @classmethod
    def begin(cls, parts: Parts, action: str, new: str, owner: str, note: Note) -> Transaction:
        """Open the journal: `new` is to take the place of what the pointer names."""
        old = parts.releases.current()
        ran = old is not None and parts.engines.endpoint(old) is not None
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        intent = Intent(secrets.token_hex(8), action, owner, now, old, new, action == PROMOTE, ran)
        parts.journal.begin(intent)
        return cls(parts, intent, note)

    def start(self) -> Endpoint:
        """Start the new engine, beside the old one or, held, after it. Raises as `Engines.start`."""
        parts, intent = self.parts, self.intent
        if intent.old is not None and self._way() == HELD:
            with parts.journal.step("held"):
                self._held = parts.switcher.hold(parts.engines.endpoint(intent.old))
                parts.engines.stop(intent.old, parts.settings.stop_grace_s)
            limit_s = self._held.get("limit_s")
            effect = f"wait, at most {limit_s:g} s each," if isinstance(limit_s, (int, float)) else "are refused"
            self.note(f"held: {intent.old} ended, requests {effect} until {intent.new} has been started and checked")
        with parts.journal.step("started"):
            endpoint = parts.engines.start(intent.new, parts.settings)
        self.note(f"started {intent.new} at {endpoint.url}")
        from slipway.agent.warm_caches import start_note  # a look at a target needs none of it

        if words := start_note(parts.paths.release(intent.new) / "start"):
            self.note(f"{intent.new} {words}")
        return endpoint

    def _way(self) -> str:
        """How the new engine starts; `auto` asks what is free, and notes what decided."""
        settings = self.parts.settings
        if settings.way != "auto":
            return settings.way
        if settings.slurm:  # on whichever node has room
            return BESIDE
        way, why = choose_way(self.parts.engines.plan(self.intent.new), room(), settings.reserve_gb)
        self.note(why)
        return way

    def switch(self) -> dict[str, object]:
        """Send requests to the new engine, drain the old one, move the pointer; what draining cost."""
        parts, intent = self.parts, self.intent
        old = parts.engines.endpoint(intent.old) if intent.old else None
        new = parts.engines.endpoint(intent.new)
        if new is None:
            raise died(intent.new)
        with parts.journal.step("configured"):
            parts.switcher.configure(new)
        with parts.journal.step("switched"):
            parts.switcher.switch(old, new)
        with parts.journal.step("drained"):
            drained = self._held or parts.switcher.drain(old)
        with parts.journal.step("pointed"):
            parts.releases.point(intent.new)
        self.note(f"switched to {intent.new}")
        return drained

    def commit(self) -> None:
        """Record the switch: there is no way back; then `finish`."""
        parts, intent = self.parts, self.intent
        with parts.journal.step("recorded"):
            parts.releases.history.record(intent.action, intent.new, intent.id, intent.owner)
        self.note(f"recorded {intent.action} of {intent.new}")
        self.finish()

    def finish(self) -> None:
        """End the old engine and close the journal. Made again after a crash it makes the same true."""
        parts, intent = self.parts, self.intent
        with parts.journal.step("stopped"):
            if intent.old and intent.old != intent.new:
                parts.engines.stop(intent.old, parts.settings.stop_grace_s)
                self.note(f"stopped {intent.old}")
        with parts.journal.step("done"):
            pass
        parts.journal.close()

    def undo(self, *, restart: bool = True) -> None:
        """Back to how it was: requests and pointer at the old release, whose engine runs if it ran, the new one ended
        and, if this made it, gone. `restart` False: no engine is started. Made again after a crash it makes the same
        true."""
        parts, intent = self.parts, self.intent
        parts.releases.point(intent.old)
        old = parts.engines.endpoint(intent.old) if intent.old else None
        if old is not None or intent.old is None:
            parts.switcher.restore(old)  # before the new engine ends: no request goes to one that has
        parts.engines.stop(intent.new, parts.settings.stop_grace_s)
        if intent.old and old is None and intent.old_ran and restart:
            self._start_again(intent.old)
        if intent.created:
            parts.releases.remove(intent.new)
        parts.journal.close()
        self.note(f"undone: {intent.action} of {intent.new}")

    def _start_again(self, name: str) -> None:
        """The old engine, which ran when this began; one that does not start any more must not keep this open."""
        try:
            self.parts.switcher.restore(self.parts.engines.start(name, self.parts.settings))
            self.note(f"{name} serves again")
        except SlipwayError as err:
            self.parts.switcher.restore(None)  # requests that wait for it have their answer: nobody serves
            self.note(f"{name} does not start again: {err}")

    def settle(self, *, restart: bool = True) -> None:
        """Undo it before its record, finish it from there on."""
        switches = self.parts.releases.history.switches()
        if any(switch.transaction == self.intent.id for switch in switches):
            if restart and (new := self.parts.engines.endpoint(self.intent.new)):
                self.parts.switcher.restore(new)
            self.finish()
        else:
            self.undo(restart=restart)


def recover(parts: Parts, note: Note, *, restart: bool = True) -> None:
    """Put in order what a transaction left whose agent died. Raises StateError for a damaged journal."""
    opened = parts.journal.read()
    if opened is not None:
        intent, steps = opened
        step = list(steps)[-1] if steps else "begun"
        note(f"{intent.action} of {intent.new} by {intent.owner} was interrupted at {step}")
        Transaction(parts, intent, note).settle(restart=restart)
    elif parts.journal.is_open():
        parts.journal.close()  # its first line was never whole: nothing was begun


def tidy(parts: Parts, note: Note, *, restart: bool = True) -> None:
    """`recover`, then: every switch recorded, no engine but the pointer's, no release that never served.

    Raises StateError, before anything is ended, when the record of the serving engine cannot be read.
    """
    recover(parts, note, restart=restart)
    parts.releases.reconcile()
    current = parts.releases.current()
    serving = parts.engines.endpoint(current) if current else None
    for name in parts.releases.names():
        if name != current or serving is None:
            parts.engines.stop(name, parts.settings.stop_grace_s)
    parts.releases.sweep()
    if restart and serving is not None:
        parts.switcher.restore(serving)  # whatever was killed, edited or set anew since
