"""One address for clients: HAProxy brought to what the target's pointer says, its file first, and drained.

Every change is `apply(routing)`: the config file is written (checked, then renamed into place), then the running
process is told over its admin socket, then what listens is looked at. The same call reconciles: file, process and
pointer agree after it, whatever was killed or edited before. What a process was told is lost when it restarts; as the
file was written first, a restarted one does the same.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.files import disk_full_is_named, fsync_directory
from slipway.agent.haproxy import keyed_slots
from slipway.agent.haproxy.config import (
    ENGINE_OF,
    REFUSING,
    SLOTS,
    ProxySettings,
    Routing,
    ServerState,
    Upstream,
    config_text,
    place,
    server_states,
    settings_digest,
)
from slipway.agent.haproxy.listeners import Listener, listeners
from slipway.agent.haproxy.process import CONFIG, HAProxyProcess, wait_until
from slipway.agent.haproxy.runtime import AdminSocket, LiveServer
from slipway.errors import ResourceError

START_LIMIT_S = 10.0
RETRY_S = 3.0  # HAProxy tries once a second for a request that waits
Note = Callable[[str], None]
_SLOT_OF = {engine: slot for slot, engine in ENGINE_OF.items()}


@dataclass(frozen=True)
class Drained:
    """The end of a drain: how long it took, and how many requests were cut at its limit."""

    seconds: float
    cut: int


class HAProxy:
    """The proxy of one target, in the folder `proxy` of its root."""

    def __init__(self, folder: Path, settings: ProxySettings, note: Note = lambda _: None) -> None:
        self._folder, self._settings, self._note = folder, settings, note
        self._admin = AdminSocket(folder)
        self._process = HAProxyProcess(folder, settings.command)

    def apply(self, routing: Routing) -> None:
        """Route as `routing` says: file, process and admin socket. Starts HAProxy when it does not run.

        Raises ResourceError when there is no HAProxy, when it refuses the file, when its address is taken or shared
        with another process, or when the disk is full.
        """
        live, states = self.prepare(routing)
        if not self._admin.answers():
            self._start()
        elif not live or self._admin.info().get("description") != f"slipway-{settings_digest(self._settings)}":
            gentle = self._process.reload()
            effect = "clients' idle connections were closed" if gentle else "requests in it were ended"
            self._note(f"the proxy's settings changed: it was put in place anew, {effect}")
        else:
            self._tell(live, states)
        self._require_agreement(states)

    def prepare(self, routing: Routing) -> tuple[dict[str, LiveServer], dict[str, ServerState]]:
        """Write the file only: (what the process does, empty without one; what the file says now).

        A slot that gets another engine is drained before. Raises as `apply`.
        """
        live = self._live()
        slots = place(routing, {slot: _address(live, slot) for slot in SLOTS}, _in_use(live))
        for slot, upstream in slots.items():
            if live and _address(live, slot) != upstream.address and _sessions(live, slot):
                self._drain_slot(slot, self._settings.drain_limit_s)
        states = server_states(routing, slots, engine_keys=self._settings.engine_keys)
        self._write(states)
        return live, states

    def hold(self, champion: Upstream | None) -> None:
        """From now on requests wait for an engine, each at most `hold_limit_s`; those in the champion go on.

        `apply` ends it. Raises ResourceError as `apply`, and when something listens where waiting requests are sent.
        """
        with socket.socket() as probe:
            probe.settimeout(2)
            if probe.connect_ex(REFUSING) == 0:
                raise ResourceError(
                    f"address {REFUSING[0]}:{REFUSING[1]}",
                    f"listened on by {', '.join(map(str, listeners(*REFUSING))) or 'something'}",
                    "nobody there: requests that wait for an engine are sent to it",
                    "stop that process, or switch beside (two engines in memory)",
                )
        if self._admin.answers():  # who waited for the last engine is let in before: nobody waits through two swaps
            wait_until(lambda: self._admin.waiting() == 0, RETRY_S)
        self.apply(Routing(champion, held=True))

    def drain(self, upstream: Upstream, limit_s: float | None = None) -> Drained:
        """Wait until the engine at this address answers nobody; at the limit, end what it still answers.

        Call it after an `apply` that gives the engine nothing new. Default limit: `drain_limit_s`.
        """
        limit = self._settings.drain_limit_s if limit_s is None else limit_s
        slots = [slot for slot in SLOTS if _address(self._live(), slot) == upstream.address]
        return self._drain_slot(slots[0], limit) if slots else Drained(0, 0)

    def drain_others(self, upstream: Upstream) -> None:
        """`drain`, for every engine but this one."""
        live = self._live()
        for slot in SLOTS:
            if _sessions(live, slot) and _address(live, slot) != upstream.address:
                self._drain_slot(slot, self._settings.drain_limit_s)

    def sessions(self) -> dict[tuple[str, int], int]:
        """(host, port) of an engine -> requests that it answers now. Empty when HAProxy does not run."""
        live = self._live()
        return {_address(live, slot): _sessions(live, slot) for slot in SLOTS if live}

    def figures(self) -> dict[tuple[str, int], dict[str, int]]:
        """(host, port) of an engine -> `AdminSocket.figures` of it. Empty when HAProxy does not run."""
        live = self._live()
        figures = self._admin.figures() if live else {}
        return {_address(live, slot): figures[f"engine/{slot}"] for slot in SLOTS if live}

    def stop(self) -> int:
        """End HAProxy, with the requests in it; how many processes that were."""
        return self._process.stop()

    def status(self) -> dict[str, Any]:
        """For a person and for `status`: `running`, `address`, `pids`, `serving` (addresses that get requests),
        `held`, `mirrored` (requests go through a mirror that answers), `others` (foreign processes on its address),
        `sessions`."""
        live = self._live()
        ready = [slot for slot in SLOTS if live and live[f"engine/{slot}"].state.ready]
        return {
            "running": bool(live),
            "address": f"{self._settings.host}:{self._settings.port}",
            "pids": self._process.pids(),
            "serving": [list(_address(live, slot)) for slot in ready],
            "held": bool(live) and live["held/wait"].state.ready,
            "mirrored": bool(live) and live["mirror/tee"].state.ready and live["mirror/tee"].up,
            "others": [str(other) for other in self._others()],
            "sessions": sum(server.sessions for name, server in live.items() if name not in _SLOT_OF),
        }

    def _live(self) -> dict[str, LiveServer]:
        """What the running process does; empty when there is none, or when its file is another version's."""
        servers = self._admin.servers() if self._admin.answers() else {}
        expected = server_states(Routing(), {}, engine_keys=self._settings.engine_keys)
        return servers if set(servers) == set(expected) else {}

    def _write(self, states: Mapping[str, ServerState]) -> None:
        """The config file, checked by HAProxy before it has its name."""
        with disk_full_is_named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._settings.engine_keys and not (self._folder / keyed_slots.KEYS).exists():
                self._write_keys(dict.fromkeys(SLOTS, ""))  # the check reads it
            draft = self._folder / f".{CONFIG}"
            with draft.open("w", encoding="utf-8") as file:
                file.write(config_text(self._settings, states))
                file.flush()
                os.fsync(file.fileno())
            self._process.check(draft.name)
            if self._settings.engine_keys:
                self._write_keys({slot: states[ENGINE_OF[slot]].key for slot in SLOTS})
            draft.replace(self._folder / CONFIG)
            fsync_directory(self._folder)

    def _write_keys(self, keys: Mapping[str, str]) -> None:
        """The map of keys by slot, which the config file reads; mode 600 from its first byte on."""
        draft = self._folder / f".{keyed_slots.KEYS}"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(keyed_slots.keys_text(keys))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / keyed_slots.KEYS)

    def _tell(self, live: Mapping[str, LiveServer], states: Mapping[str, ServerState]) -> None:
        """Bring the process there: first who is to get requests, then who is not, so that somebody always does."""
        for name, wanted in sorted(states.items(), key=lambda item: not item[1].ready):
            state = live[name].state
            if wanted.ready and state.key != wanted.key:
                self._admin.give_key(_SLOT_OF[name], wanted.key)
            if wanted.ready and state.tls != wanted.tls:
                self._admin.speak_tls(name, tls=wanted.tls)
            if wanted.ready and (state.host, state.port) != (wanted.host, wanted.port):
                self._admin.move(name, wanted.host, wanted.port)
            if wanted.ready and state.weight != wanted.weight:
                self._admin.weigh(name, wanted.weight)
            if wanted.ready and not state.ready:
                self._admin.ready(name)
            if state.ready and not wanted.ready:
                self._admin.drain(name)

    def _require_agreement(self, states: Mapping[str, ServerState]) -> None:
        """ResourceError unless the process does what the file says, and its address is its own."""
        if not wait_until(lambda: self._agrees(states), START_LIMIT_S):
            live = {name: server.state for name, server in self._live().items()}
            raise ResourceError(
                f"HAProxy of {self._folder}", f"does {live}", f"what its file says: {dict(states)}", "read haproxy.cfg"
            )
        self._require_alone()

    def _start(self) -> None:
        """A new process, in the place of one that nobody can talk to any more (its socket was removed)."""
        self._require_alone()
        if stale := self._process.stop():
            self._note(f"{stale} process of the proxy did not answer on its socket and was ended")
        self._process.start()

    def _require_alone(self) -> None:
        """ResourceError when a foreign process listens on the proxy's address: it would get a part of the requests."""
        if others := self._others():
            raise ResourceError(
                f"address {self._settings.host}:{self._settings.port}",
                f"listened on by {', '.join(map(str, others))}",
                "the proxy alone",
                "stop that process, or set deploy.proxy.port",
            )

    def _agrees(self, states: Mapping[str, ServerState]) -> bool:
        live = self._live()
        return set(live) == set(states) and all(
            live[name].state == wanted if wanted.ready else not live[name].state.ready
            for name, wanted in states.items()
        )

    def _others(self) -> list[Listener]:
        own = self._process.pids()
        there = listeners(self._settings.host, self._settings.port)
        return [one for one in there if one.pid is not None and one.pid not in own]

    def _drain_slot(self, slot: str, limit_s: float) -> Drained:
        """Two looks in a row must find nobody: a request may be between two backends in one."""
        started, looks = time.monotonic(), 0

        def empty() -> bool:
            nonlocal looks
            live = self._live()
            looks = 0 if _sessions(live, slot) or _mirrored(live) or self._finishing() else looks + 1
            return looks >= 2

        if wait_until(empty, limit_s):
            return Drained(time.monotonic() - started, 0)
        live = self._live()
        cut = _sessions(live, slot) + _mirrored(live)
        for backend in ("engine", "held", "mirror"):
            self._admin.cut(f"{backend}/{slot}")
        if _mirrored(live):
            self._admin.cut("mirror/tee")
        return Drained(time.monotonic() - started, cut)

    def _finishing(self) -> bool:
        """Whether a process from before a reload still has requests: nobody can see in which engine."""
        listening = {one.pid for one in listeners(self._settings.host, self._settings.port)}
        return bool(set(self._process.pids()) - listening)


def _address(live: Mapping[str, LiveServer], slot: str) -> tuple[str, int]:
    server = live.get(ENGINE_OF[slot]) or live.get(f"engine/{slot}")
    return (server.state.host, server.state.port) if server else REFUSING


def _sessions(live: Mapping[str, LiveServer], slot: str) -> int:
    return sum(live[name].sessions for name in (f"engine/{slot}", f"held/{slot}", f"mirror/{slot}") if name in live)


def _mirrored(live: Mapping[str, LiveServer]) -> int:
    """Requests that a mirror still passes which gets no new ones: an engine answers them, nobody can see which."""
    server = live.get("mirror/tee")
    return server.sessions if server and not server.state.ready else 0


def _in_use(live: Mapping[str, LiveServer]) -> set[str]:
    """Slots whose engine gets requests or still answers some."""
    return {slot for slot in SLOTS if live and (live[f"engine/{slot}"].state.ready or _sessions(live, slot))}
