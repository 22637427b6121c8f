"""HAProxy as what stands before a target's engines in a transaction (`switching.Switcher`).

    step         file             process                        requests
    configured   new engine       old engine                     to the old one
    switched     new engine       new one ready, old one drains  to the new one; the old one's go on
    drained      new engine       new engine                     the old engine answers nobody
    held         nobody (waits)   `held/wait` up, old drains     wait for whichever engine is ready next

Killed in between, HAProxy comes back from its file: with the new engine from `configured` on, which has passed its
checks by then. The next command brings file and process to the pointer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from slipway.agent.canary.captured import CapturedPrompts
from slipway.agent.canary.mirror_process import MirrorConfig, MirrorProcess
from slipway.agent.engine_key import read_key
from slipway.agent.haproxy.address import Drained, HAProxy
from slipway.agent.haproxy.config import ProxySettings, Routing, Upstream
from slipway.errors import ConfigError, ResourceError


class Listening(Protocol):
    """An engine and where it listens; its log lies in its release's folder."""

    @property
    def host(self) -> str:
        """Address or name."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def log(self) -> str:
        """Path of its log."""

    @property
    def key_file(self) -> str:
        """Path of the key that it asks for; empty for none."""

    @property
    def ca_file(self) -> str:
        """Path of what signed its certificate; empty for plain HTTP."""


class HAProxySwitcher:
    """The proxy of one target; `folder` is its own, made when it is first needed."""

    def __init__(self, folder: Path, settings: ProxySettings) -> None:
        self._settings, self._root = settings, folder.parent
        self.proxy = HAProxy(folder, settings)
        self.tee = MirrorProcess(self._root / "mirror")

    def describe(self) -> dict[str, Any]:
        """`kind`, `address` (base URL of the API for clients), `note` for a person, and `HAProxy.status`'s own keys."""
        status = self.proxy.status()
        scheme = "https" if self._settings.tls_file else "http"
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        notes = [] if status["running"] else ["HAProxy does not run: `slipway start TARGET` starts it"]
        notes += ["requests wait for an engine"] if status["held"] else []
        notes += ["capture is on and no mirror runs: nothing is stored"] if self._captures_nothing(status) else []
        notes += [f"the address is shared with {', '.join(status['others'])}"] if status["others"] else []
        address = f"{scheme}://{host}:{self._settings.port}/v1"
        return {**status, "kind": "haproxy", "address": address, "note": "; ".join(notes)}

    def _captures_nothing(self, status: dict[str, Any]) -> bool:
        return bool(status["running"]) and self._capture() is not None and not status["mirrored"]

    def require(self) -> None:
        """Nothing is in the way: its settings hold on this machine."""

    def configure(self, new: Listening) -> None:
        """Write and check the file in which `new` serves; the running process is told nothing. Raises as
        `HAProxy.prepare`, StateError when its key cannot be read."""
        self.proxy.prepare(Routing(self._reached(new)))

    def switch(self, old: Listening | None, new: Listening) -> None:  # noqa: ARG002 (of the protocol)
        """New requests go to `new`, through a mirror where prompts are captured. Raises as `HAProxy.apply`."""
        self._apply(new)

    def drain(self, old: Listening | None) -> dict[str, Any]:
        """Wait for the old engine's last answer: `seconds`, and `cut`, the requests ended at the limit."""
        drained = self.proxy.drain(upstream_of(old)) if old else Drained(0, 0)
        return {"seconds": round(drained.seconds, 3), "cut": drained.cut}

    def hold(self, old: Listening | None) -> dict[str, Any]:
        """Requests wait from now on, and the old engine has given its last answer when this returns: as `drain`, and
        `limit_s`."""
        self.proxy.hold(upstream_of(old) if old else None)
        return {**self.drain(old), "limit_s": self._settings.hold_limit_s}

    def share(self, serving: Listening, candidate: Listening, percent: int) -> None:
        """`percent` of the new requests to `candidate`; what it cannot take (it died) goes to `serving`."""
        self.proxy.apply(Routing(self._reached(serving), self._reached(candidate), percent))

    def restore(self, serving: Listening | None) -> None:
        """File and process as the pointer says; another engine that had requests gives its last answers first, bounded.
        Without an engine that serves nothing is started, and a proxy that runs answers 503."""
        if serving is not None:
            self._apply(serving)
            self.proxy.drain_others(upstream_of(serving))
        elif self.proxy.status()["running"]:
            self.proxy.apply(Routing())

    def mirror(self, serving: Listening, candidate: Listening, timeout_s: float) -> None:
        """Requests go to `serving` through a mirror that asks `candidate` the same, at most `timeout_s` an answer."""
        upstream, other = self._reached(serving), self._reached(candidate)
        config = MirrorConfig(
            upstream.address,
            other.address,
            self._capture(),
            timeout_s=timeout_s,
            champion_key=serving.key_file,
            candidate_key=candidate.key_file,
            champion_ca=serving.ca_file,
            candidate_ca=candidate.ca_file,
        )
        self.proxy.apply(Routing(upstream, mirror=self.tee.start(config)))
        self.tee.end_replaced()

    def figures(self, engine: Listening) -> dict[str, int]:
        """`requests`, `errors`, `total_ms` of an engine since HAProxy started; zeros for one that it does not know."""
        return self.proxy.figures().get(upstream_of(engine).address, {"requests": 0, "errors": 0, "total_ms": 0})

    def stop(self) -> None:
        """End the proxy, with what is in it."""
        self.proxy.stop()
        self.tee.stop()

    def _apply(self, engine: Listening) -> None:
        """Route to this engine; a mirror is there afterwards only while prompts are captured. One that does not start
        keeps no request from the engine: `describe` says that none is captured."""
        upstream, folder, mirror = self._reached(engine), self._capture(), None
        if folder is not None:
            with contextlib.suppress(ResourceError):
                files = {"champion_key": engine.key_file, "champion_ca": engine.ca_file}
                config = MirrorConfig(upstream.address, capture=folder, **files)  # type: ignore[arg-type]
                mirror = self._capturing(config)
        self.proxy.apply(Routing(upstream, mirror=mirror))
        (self.tee.end_replaced if mirror else self.tee.dismiss)()

    def _reached(self, engine: Listening) -> Upstream:
        """`with_key`. Raises ConfigError for an engine whose certificate the settings of now cannot check."""
        if engine.ca_file and engine.ca_file != self._settings.engine_ca:
            value, expected = self._settings.engine_ca or "none", f"{engine.ca_file}, which signed the engine's"
            next_step = "put it back, or `slipway stop TARGET` first: the next start speaks as deploy.slurm.tls says"
            raise ConfigError("deploy.slurm.tls.ca", value, expected, next_step)
        return with_key(engine)

    def _capturing(self, config: MirrorConfig) -> tuple[str, int]:
        """The mirror that captures: the one that runs already, or a new one, while the old one answers what it has."""
        status = self.tee.status()
        if status is not None and status["config"] == json.loads(json.dumps(asdict(config))):
            return "127.0.0.1", int(status["port"])
        return self.tee.start(config)

    def _capture(self) -> str | None:
        """The folder of captured prompts; None while capture is off."""
        folder = self._root / "capture"
        return str(folder) if CapturedPrompts(folder).rule() is not None else None


def with_key(engine: Listening) -> Upstream:
    """`upstream_of`, for an engine that gets requests: with its key, and whether it speaks TLS. Raises StateError for a
    key that cannot be read."""
    return replace(upstream_of(engine), key=read_key(engine.key_file), tls=bool(engine.ca_file))


def upstream_of(engine: Listening) -> Upstream:
    """The engine as HAProxy is told of it: by IP address. Raises ConfigError for a name that nobody knows."""
    release = Path(engine.log).parent.name
    try:
        address = ipaddress.ip_address(engine.host)
    except ValueError:
        try:
            where = socket.getaddrinfo(engine.host, engine.port, type=socket.SOCK_STREAM)[0][-1]
        except OSError as err:
            raise ConfigError("deploy.host", engine.host, "an address of the target", "set deploy.host") from err
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    if address.is_unspecified:  # it listens everywhere: near by is enough
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return Upstream(release, str(address), engine.port)
