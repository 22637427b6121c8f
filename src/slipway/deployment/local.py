"""The target `local`: engines are processes of this machine, on ports of one range."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
        if server and serving.is_running(server):
            return server
        return self._by_command_line(name, doc) if server and server.started is None else None

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

    def stop(self, name: str) -> Server | None:
        """End the process of this release and forget its endpoint; the process that was ended, None when none ran."""
        server = self.server(name) or self._by_command_line(name, self._endpoint(name))
        ran = server is not None and serving.stop(server)
        (self.releases.dir(name) / ENDPOINT).unlink(missing_ok=True)
        return server if ran else None

    def _by_command_line(self, name: str, doc: Mapping[str, Any]) -> Server | None:
        """The process that serves this release on the recorded port, whatever pid the record holds: none when we died right
        after the start, and one with a wall-clock start time in a record of an earlier version."""
        port, engine = doc.get("port"), str(self.releases.dir(name) / "engine")
        if port is None:
            return None
        for process in psutil.process_iter(["cmdline"]):
            argv = process.info["cmdline"] or []
            if str(port) in argv and any(a.startswith(f"{engine}/") for a in argv):
                host, model, log = doc.get("host"), doc.get("model"), str(self.releases.dir(name) / "engine.log")
                with suppress(ProcessLookupError):  # it ended while we looked
                    identity = processes.identify(process.pid).model_dump()
                    return Server(**identity, host=host or self._params.host, port=port, model=model or "", log=log)
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
