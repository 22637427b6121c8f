"""A target behind HAProxy, driven by its agent's verbs; its engines answer the version that they are."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipway.agent.agent import Agent
from slipway.store.artifacts import Engine
from slipway.store.store import Store, load
from slipway.system.ports import any_port
from tests.support.switch_load import Pointer
from tests.support.switch_site import ENGINE


class SwitchAgent:
    """Promotions and rollbacks by the verbs of `agent`; `pointer` says which version may answer."""

    def __init__(self, root: Path, *, way: str = "beside", load_s: float = 0) -> None:
        self.agent = Agent(root / "target")
        self.port = any_port("127.0.0.1")
        self.pointer = Pointer()
        self.serving = ""
        self.memory_gb = 0.0  # what candidates are planned to take, 0: nobody planned it
        self.notes: list[str] = []
        self._store = Store(root / "store")
        self._load_s = load_s
        first = any_port()
        proxy = {"kind": "haproxy", "host": "127.0.0.1", "port": self.port, "drain_limit_s": 60, "hold_limit_s": 60}
        self.settings: dict[str, Any] = {
            "ports": [first, first + 9], "start_timeout_s": 60, "way": way, "proxy": proxy,
        }  # fmt: skip

    def promote(self, version: str, *options: str) -> dict[str, Any]:
        """A whole transaction; the release's record. `options` are the engine's."""
        self.begin(version, *options)
        return self._switch(version)

    def begin(self, version: str, *options: str) -> None:
        """A transaction up to its staged release."""
        engine = self._engine(version)
        request = {"action": "promote", "engine": engine.digest, "settings": self.settings}
        self.agent.call("begin", request, self.notes.append)
        record = {"model": "m", "digests": {"engine": engine.digest}, "runs": {}, "outcome": "pass"}
        stage = {"engine": {"path": str(engine.path)}, "release": record, "start": self._start(version, *options)}
        self.agent.call("stage", stage)

    def rollback(self, version: str) -> dict[str, Any]:
        """To the previous release, which is of this version; its record."""
        self.agent.call("begin", {"action": "rollback", "settings": self.settings})
        return self._switch(version)

    def _switch(self, version: str) -> dict[str, Any]:
        if self.serving:
            self.pointer.set(self.serving, version)
        self.agent.call("start", {})
        drained = self.agent.call("switch", {"smoke": []})["drained"]
        assert not drained["cut"], drained
        record: dict[str, Any] = self.agent.call("commit", {})["release"]
        self.pointer.set(version)
        self.serving = version
        return record

    def _engine(self, version: str) -> Engine:
        key = f"engine-{version}"
        if not self._store.dir("engine", key).exists():
            with self._store.create(Engine, key, {"stage": "engine", "inputs": {}}) as out:
                (out / "serve").write_text(f"#!{sys.executable} -S\n{ENGINE.read_text()}")
                (out / "serve").chmod(0o755)
                (out / "version.json").write_text(json.dumps({"version": version}))
        return load(Engine, self._store.dir("engine", key))

    def _start(self, version: str, *options: str) -> dict[str, Any]:
        argv = ["{bundle}/serve", "--name", version, "--host", "{host}", "--port", "{port}"]
        plan = {"argv": [*argv, "--load-s", str(self._load_s), *options], "alias": "m", "start_s": 60}
        return {"plan": {**plan, "memory": {"weights": self.memory_gb * 1e9}}}


@contextmanager
def switch_agent(root: Path, **more: Any) -> Iterator[SwitchAgent]:
    """One for the time of the block; nothing of it runs afterwards."""
    target = SwitchAgent(root, **more)
    try:
        yield target
    finally:
        target.agent.close()
        target.agent.call("stop", {})
        shutil.rmtree(root, ignore_errors=True)
