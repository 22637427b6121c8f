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

import ipaddress
import socket
from pathlib import Path
from typing import Any, Protocol

from slipway.agent.haproxy import Drained, HAProxy
from slipway.agent.haproxy_config import ProxySettings, Routing, Upstream
from slipway.errors import ConfigError


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


class HAProxySwitcher:
    """The proxy of one target; `folder` is its own, made when it is first needed."""

    def __init__(self, folder: Path, settings: ProxySettings) -> None:
        self._settings = settings
        self.proxy = HAProxy(folder, settings)

    def describe(self) -> dict[str, Any]:
        """`kind`, `address` (base URL of the API for clients), `note` for a person, and `HAProxy.status`'s own keys."""
        status = self.proxy.status()
        scheme = "https" if self._settings.tls_file else "http"
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        notes = [] if status["running"] else ["HAProxy does not run: `slipway start TARGET` starts it"]
        notes += ["requests wait for an engine"] if status["held"] else []
        notes += [f"the address is shared with {', '.join(status['others'])}"] if status["others"] else []
        address = f"{scheme}://{host}:{self._settings.port}/v1"
        return {**status, "kind": "haproxy", "address": address, "note": "; ".join(notes)}

    def configure(self, new: Listening) -> None:
        """Write and check the file in which `new` serves; the running process is told nothing. Raises as
        `HAProxy.prepare`."""
        self.proxy.prepare(Routing(upstream_of(new)))

    def switch(self, old: Listening | None, new: Listening) -> None:  # noqa: ARG002 (of the protocol)
        """New requests go to `new`. Raises as `HAProxy.apply`."""
        self.proxy.apply(Routing(upstream_of(new)))

    def drain(self, old: Listening | None) -> dict[str, Any]:
        """Wait for the old engine's last answer: `seconds`, and `cut`, the requests ended at the limit."""
        drained = self.proxy.drain(upstream_of(old)) if old else Drained(0, 0)
        return {"seconds": round(drained.seconds, 3), "cut": drained.cut}

    def hold(self, old: Listening | None) -> dict[str, Any]:
        """Requests wait from now on, and the old engine has given its last answer when this returns; as `drain`."""
        self.proxy.hold(upstream_of(old) if old else None)
        return self.drain(old)

    def share(self, serving: Listening, candidate: Listening, percent: int) -> None:
        """`percent` of the new requests to `candidate`; what it cannot take (it died) goes to `serving`."""
        self.proxy.apply(Routing(upstream_of(serving), upstream_of(candidate), percent))

    def restore(self, serving: Listening | None) -> None:
        """File and process as the pointer says; another engine that had requests gives its last answers first, bounded.
        Without an engine that serves nothing is started, and a proxy that runs answers 503."""
        if serving is not None:
            upstream = upstream_of(serving)
            self.proxy.apply(Routing(upstream))
            self.proxy.drain_others(upstream)
        elif self.proxy.status()["running"]:
            self.proxy.apply(Routing())

    def stop(self) -> None:
        """End the proxy, with what is in it."""
        self.proxy.stop()


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
