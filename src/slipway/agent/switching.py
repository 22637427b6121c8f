"""How clients come from one engine to the next: what a transaction asks of whatever stands before the engines.

Without a proxy (`Portless`) nothing stands there: clients follow `current/endpoint.json`, and the port changes with
every switch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from slipway.agent.files import sha256_file
from slipway.agent.haproxy.process import CONFIG, HAProxyProcess
from slipway.agent.haproxy.settings import proxy_settings
from slipway.errors import ResourceError, SlipwayError

if TYPE_CHECKING:
    from slipway.agent.engines import Endpoint
    from slipway.agent.haproxy.config import ProxySettings
    from slipway.agent.paths import TargetPaths
    from slipway.agent.settings import Settings


class Switcher(Protocol):
    """What stands before the engines. Every method may be called again after a crash: it makes true what it says."""

    def describe(self) -> dict[str, Any]:
        """For `status`: `kind`, `address` (null where the port changes), `note` for a person. Starts nothing."""

    def require(self) -> None:
        """Raises what would refuse a change, before one begins: settings that do not hold on this machine."""

    def configure(self, new: Endpoint) -> None:
        """Write down, on the disk and checked, that requests go to `new`; those of now still go where they went."""

    def switch(self, old: Endpoint | None, new: Endpoint) -> None:
        """Send new requests to `new`; those that `old` answers go on."""

    def drain(self, old: Endpoint | None) -> dict[str, Any]:
        """Wait until `old` answers no request any more, bounded: `seconds`, and `cut`, the requests ended by the
        bound."""

    def hold(self, old: Endpoint | None) -> dict[str, Any]:
        """Let new requests wait and `old` answer its last, because memory holds one engine only; what `drain` gives and
        `limit_s`: how long a request waits at most, null where none can."""

    def share(self, serving: Endpoint, candidate: Endpoint, percent: int) -> None:
        """Send this part of the new requests, 0 to 100, to `candidate`. `restore` takes it back."""

    def restore(self, serving: Endpoint | None) -> None:
        """Make file and running proxy agree with the pointer: requests go to `serving`, to nobody when it is None."""

    def stop(self) -> None:
        """End the proxy: nothing serves here any more."""


class Portless:
    """Nothing before the engines: the pointer is the switch. A proxy that stood there before is ended with the next
    change: it would lead to an engine that is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> dict[str, Any]:
        """That the port changes."""
        note = "no proxy: the port changes with every switch; clients follow current/endpoint.json"
        return {"kind": "portless", "address": None, "note": note}

    def require(self) -> None:
        """Nothing can be in the way."""

    def configure(self, new: Endpoint) -> None:
        """Nothing to write."""

    def switch(self, old: Endpoint | None, new: Endpoint) -> None:  # noqa: ARG002
        """Nothing to tell: the pointer follows."""
        self.stop()

    def drain(self, old: Endpoint | None) -> dict[str, Any]:  # noqa: ARG002 (of the protocol)
        """Nobody knows which requests `old` answers: it ends them itself when it is stopped."""
        return {"seconds": 0.0, "cut": None}

    def hold(self, old: Endpoint | None) -> dict[str, Any]:
        """Nothing can hold requests: they are refused until the new engine answers."""
        return {**self.drain(old), "limit_s": None}

    def share(self, serving: Endpoint, candidate: Endpoint, percent: int) -> None:  # noqa: ARG002
        """Raises ResourceError: clients of a port get all of their answers from it."""
        next_step = "install HAProxy on the target (`apt-get install haproxy`), or compare by the mirror"
        raise ResourceError("share of the requests", f"{percent}%", "a proxy that divides them", next_step)

    def restore(self, serving: Endpoint | None) -> None:  # noqa: ARG002
        """The pointer alone says who serves."""
        self.stop()

    def stop(self) -> None:
        """End a proxy of before."""
        if (self._folder / CONFIG).exists():
            HAProxyProcess(self._folder, ("haproxy",)).stop()
            (self._folder / CONFIG).unlink()


class Unusable:
    """A proxy whose settings do not hold on this machine (a key file that is gone): every change raises why, but the
    target can be looked at and stopped."""

    def __init__(self, folder: Path, error: SlipwayError) -> None:
        self._folder, self._error = folder, error

    def describe(self) -> dict[str, Any]:
        """Why no proxy can be had."""
        return {"kind": "haproxy", "address": None, "note": f"no change is possible: {self._error}"}

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self._error

    require = configure = switch = drain = hold = share = restore = _refuse

    def stop(self) -> None:
        """End a proxy that runs with settings of before."""
        HAProxyProcess(self._folder, ("haproxy",)).stop()


def switcher_for(paths: TargetPaths, settings: Settings) -> Switcher:
    """What stands before the engines of this target: HAProxy, or nothing. Settings that do not hold are an error of
    what changes requests, not of what only looks or stops."""
    try:
        proxy = proxy_settings(settings.proxy)
    except SlipwayError as err:
        return Unusable(paths.proxy, err)
    if proxy is None:
        return Portless(paths.proxy)
    from slipway.agent.haproxy.switcher import HAProxySwitcher  # with the mirror's asyncio: a look needs none of it

    return HAProxySwitcher(paths.proxy, _with_engines(proxy, settings) if settings.slurm else proxy)


def _with_engines(proxy: ProxySettings, settings: Settings) -> ProxySettings:
    """With what engines of Slurm need of the proxy: a key each, and TLS where the section asks for it."""
    ca = str((settings.slurm.get("tls") or {}).get("ca", ""))
    digest = proxy.tls_digest + sha256_file(Path(ca)) if ca and Path(ca).is_file() else proxy.tls_digest
    return replace(proxy, engine_keys=True, engine_ca=ca, tls_digest=digest)
