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
from collections.abc import Callable

from slipway.agent.engines import Endpoint
from slipway.agent.history import PROMOTE
from slipway.agent.journal import Intent
from slipway.agent.parts import Parts
from slipway.agent.records import utc_now
from slipway.agent.room import BESIDE, HELD, choose_way, hold_warning, room
from slipway.errors import EngineError, ResourceError, SlipwayError

Note = Callable[[str], None]


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
        now = utc_now()
        intent = Intent(secrets.token_hex(8), action, owner, now, old, new, action == PROMOTE, ran)
        parts.journal.begin(intent)
        return cls(parts, intent, note)

    def start(self) -> Endpoint:
        """Start the new engine, beside the old one or, held, after it. Raises as `Engines.start`."""
        parts, intent = self.parts, self.intent
        if intent.old is not None and self._way() == HELD:
            if warning := hold_warning(intent.new, parts.engines.plan(intent.new), parts.settings):
                self.note(warning)
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
        true.

        A proxy that cannot be told raises ResourceError with what is true then: undone but for the proxy, where none
        runs; not undone, with both engines left running, where it may still send requests to the new one."""
        parts, intent = self.parts, self.intent
        parts.releases.point(intent.old)
        old, broken = parts.engines.endpoint(intent.old) if intent.old else None, None
        if old is not None or intent.old is None:
            broken = self._give_back(old)  # before the new engine ends: no request goes to one that has
        parts.engines.stop(intent.new, parts.settings.stop_grace_s)
        if intent.old and old is None and intent.old_ran and restart:
            broken = self._start_again(intent.old)
        if intent.created:
            parts.releases.remove(intent.new)
        parts.journal.close()
        self.note(f"undone: {intent.action} of {intent.new}")
        if broken is not None:
            raise broken

    def _start_again(self, name: str) -> SlipwayError | None:
        """The old engine, which ran when this began; one that does not start any more must not keep this open. As
        `_give_back`."""
        try:
            endpoint = self.parts.engines.start(name, self.parts.settings)
        except SlipwayError as err:
            self.note(f"{name} does not start again: {err}")
            return self._give_back(None)  # requests that wait for it have their answer: nobody serves
        if broken := self._give_back(endpoint):
            return broken
        self.note(f"{name} serves again")
        return None

    def _give_back(self, old: Endpoint | None) -> SlipwayError | None:
        """Send requests to the old engine again; where that fails and no proxy runs, an error that says so. Raises
        ResourceError where the proxy cannot be told and runs on: who gets its requests decides what may end."""
        try:
            self.parts.switcher.restore(old)
        except SlipwayError as err:
            state = self.parts.switcher.describe()
            gets = [tuple(address) for address in state.get("serving", ())]
            if state.get("running") and old is not None and gets == [(old.host, old.port)]:
                self.note(f"requests go to {self.intent.old}; the proxy could not be put in order: {err}")
                return None
            runs = f"{self.intent.old} runs at {old.url}" if old else "no engine serves"
            next_step = f"{err.next_step}; then `slipway start TARGET`"
            if state.get("pids") == []:
                value = f"no proxy answers there, {runs}: {err.thing}: {err.value}"
                return ResourceError(f"address {state['address']}", value, err.expected, next_step)
            where = ", ".join(f"{host}:{port}" for host, port in gets) or "an engine that it cannot be asked for"
            value = f"not undone, {runs}, the proxy sends requests to {where}: {err.thing}: {err.value}"
            raise ResourceError(f"{self.intent.action} of {self.intent.new}", value, err.expected, next_step) from err
        return None

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
