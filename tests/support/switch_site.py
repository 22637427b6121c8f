"""Engines of tests/support/stream_engine.py behind a HAProxy, replaced as a target replaces its engine; with
`engine_keys` each asks for a key of its own."""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from slipway.agent.haproxy.address import HAProxy
from slipway.agent.haproxy.config import ProxySettings, Routing, Upstream
from slipway.system.ports import any_port
from tests.support.switch_load import Pointer

ENGINE = Path(__file__).with_name("stream_engine.py")


class SwitchSite:
    """One address, one engine that serves; `pointer` says which, for the answers' check."""

    def __init__(self, folder: Path, **settings: object) -> None:
        values = {"host": "127.0.0.1", "port": any_port("127.0.0.1"), "drain_limit_s": 60, "hold_limit_s": 60}
        self.settings = ProxySettings(**{**values, **settings})  # type: ignore[arg-type]
        self.proxy = HAProxy(folder, self.settings)
        self.pointer = Pointer()
        self.serving: Upstream | None = None
        self.tls: tuple[str, str] | None = None  # certificate and key of the engines that start from now on
        self._engines: dict[Upstream, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SwitchSite:
        return self

    def __exit__(self, *exception: object) -> None:
        self.proxy.stop()
        for engine in list(self._engines):
            self.stop(engine)

    def start(self, name: str, port: int | None = None, load_s: float = 0, wait: bool = True) -> Upstream:
        """An engine of that name, healthy when this returns."""
        key = secrets.token_hex(32) if self.settings.engine_keys else ""
        upstream = Upstream(name, "127.0.0.1", port or any_port("127.0.0.1"), key, tls=self.tls is not None)
        argv = [
            sys.executable,
            "-S",
            str(ENGINE),
            "--name",
            name,
            "--port",
            str(upstream.port),
            "--load-s",
            str(load_s),
        ]
        argv += ["--tls", *self.tls] if self.tls else []
        environment = {**os.environ, "ENGINE_KEY": key}
        self._engines[upstream] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment)
        while wait and not healthy(upstream):
            time.sleep(0.05)
        return upstream

    def stop(self, engine: Upstream) -> None:
        """End an engine at once."""
        process = self._engines.pop(engine)
        process.kill()
        process.wait()

    def serve(self, name: str) -> None:
        """The first engine."""
        self.serving = self.start(name)
        self.proxy.apply(Routing(self.serving))
        self.pointer.set(name)

    def beside(self, name: str) -> None:
        """Replace the engine with two in memory for a while."""
        old, new = self._old(), self.start(name)
        self.pointer.set(old.release, name)
        self.proxy.apply(Routing(new))
        self.pointer.set(name)
        self.serving = new
        assert self.proxy.drain(old).cut == 0
        self.stop(old)

    def held(self, name: str, load_s: float = 0) -> None:
        """Replace the engine with one in memory: requests wait."""
        old = self._old()
        self.proxy.hold(old)
        assert self.proxy.drain(old).cut == 0
        self.stop(old)
        self.pointer.set(name)
        self.serving = self.start(name, load_s=load_s)
        self.proxy.apply(Routing(self.serving))

    def naive(self, name: str) -> None:
        """The control: the old engine is stopped and the new one started at its port, as a restarted unit does."""
        old = self._old()
        self.pointer.set(old.release, name)
        self.stop(old)
        self.serving = self.start(name, port=old.port)
        self.pointer.set(name)

    def _old(self) -> Upstream:
        assert self.serving is not None
        return self.serving


def healthy(engine: Upstream) -> bool:
    """Whether it answers."""
    url = f"http{'s' if engine.tls else ''}://{engine.host}:{engine.port}/health"
    anybody = ssl._create_unverified_context()  # whose certificate it is, the tests ask
    with suppress(OSError), urllib.request.urlopen(url, timeout=2, context=anybody) as response:
        return bool(response.status == 200)
    return False
