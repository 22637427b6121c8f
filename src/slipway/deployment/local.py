"""The target `local`: engines are processes of this machine, on ports of one range."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from slipway.config.deploy import DeployConfig
from slipway.deployment.releases import Releases
from slipway.engines import server as serving
from slipway.engines.server import Server
from slipway.errors import EngineError
from slipway.system import processes
from slipway.system.ports import free_port

if TYPE_CHECKING:
    from slipway.engines.chat_client import ChatClient

ENDPOINT = "endpoint.json"
SMOKE_TOKENS = 64
SMOKE_TIMEOUT_S = 60.0


class LocalTarget:
    """Starts, checks and stops the engine processes of releases."""

    def __init__(self, params: DeployConfig) -> None:
        self.releases = Releases(Path(params.root))
        self._params = params

    def start(self, name: str) -> Server:
        """Serve a release beside whatever serves, and wait for its health. On error nothing is left running.

        The port is written down before the process exists: should we die in between, `stop` finds the process by it.
        """
        p, path = self._params, self.releases.dir(name)
        port = free_port(p.host, *p.ports)
        self.releases.write(name, ENDPOINT, json.dumps({"url": None, "port": port}))
        server = serving.start(
            path / "engine", p.host, port, path / "engine.log", detach=True, timeout_s=p.start_timeout_s
        )
        self.releases.write(
            name, ENDPOINT, json.dumps({"url": server.url, **server.model_dump(exclude_none=True)}, indent=1) + "\n"
        )
        return server

    def server(self, name: str) -> Server | None:
        """The process that serves this release, None when it does not run."""
        doc = self._endpoint(name)
        server = Server.model_validate(doc) if "pid" in doc else None
        return server if server and serving.is_running(server) else None

    def healthy(self, name: str) -> bool:
        server = self.server(name)
        return server is not None and serving.is_healthy(server)

    def smoke(self, name: str) -> list[dict[str, Any]]:
        """Ask the release's own smoke prompts: every answer must have text. Whether it is JSON is reported, not required."""
        from slipway.engines.chat_client import ChatClient  # httpx: a look at the state asks nothing

        server = self.server(name)
        if server is None:
            raise EngineError(
                f"release {name}",
                "its engine died",
                "an engine to ask",
                f"read {self.releases.dir(name) / 'engine.log'}",
            )
        rows = [json.loads(line) for line in (self.releases.dir(name) / "smoke.jsonl").read_text().splitlines()]
        with ChatClient(server.url, server.model, SMOKE_TIMEOUT_S) as client:
            return [_ask(client, row, name) for row in rows]

    def stop(self, name: str) -> None:
        """End every process of this release and forget its endpoint."""
        doc = self._endpoint(name)
        if server := self.server(name):
            serving.stop(server)
        elif "port" in doc and "pid" not in doc and (lost := self._unrecorded(name, doc["port"])):
            serving.stop(lost)
        (self.releases.dir(name) / ENDPOINT).unlink(missing_ok=True)

    def _unrecorded(self, name: str, port: int) -> Server | None:
        """The process started for this release on this port whose pid was never written down: known by its command line."""
        engine = str(self.releases.dir(name) / "engine")
        for process in psutil.process_iter(["cmdline"]):
            argv = process.info["cmdline"] or []
            if str(port) in argv and any(a.startswith(f"{engine}/") for a in argv):
                log = str(self.releases.dir(name) / "engine.log")
                with suppress(ProcessLookupError):  # it ended while we looked
                    identity = processes.identify(process.pid).model_dump()
                    return Server(**identity, host=self._params.host, port=port, model="", log=log)
        return None

    def _endpoint(self, name: str) -> dict[str, Any]:
        file = self.releases.dir(name) / ENDPOINT
        return dict(json.loads(file.read_text())) if file.exists() else {}


def _ask(client: ChatClient, row: dict[str, Any], name: str) -> dict[str, Any]:
    answer = client.ask(row["messages"][:-1], SMOKE_TOKENS)
    if not answer.text.strip():
        raise EngineError(
            f"release {name}",
            f"empty answer to test row {row['id']}",
            "text",
            "read its engine.log; evaluate the engine again",
        )
    return {"id": row["id"], "answer": answer.text, "json": _is_json(answer.text), "seconds": round(answer.seconds, 3)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
