"""The target `local`: engines are processes of this machine, on ports of one range."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel

from slipway.config.deploy import DeployConfig
from slipway.deployment.history import NAME
from slipway.deployment.releases import Releases, Stopped
from slipway.engines import server as engine_server
from slipway.engines.server import Server
from slipway.errors import EngineError, StateError
from slipway.system import processes
from slipway.system.files import remove
from slipway.system.json_files import as_model, is_present, read_json, read_json_lines
from slipway.system.ports import free_port
from slipway.system.processes import ProcessIdentity

if TYPE_CHECKING:
    from slipway.engines.chat_client import ChatClient

ENDPOINT = "endpoint.json"
SMOKE_TOKENS = 64
SMOKE_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0


class SmokeRow(BaseModel):
    """A test row as a smoke prompt: all messages but the last are asked."""

    id: str
    messages: list[dict[str, Any]]


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
        server = engine_server.start(path / "engine", p.host, port, path / "engine.log", timeout_s=p.start_timeout_s)
        self.releases.write(
            name, ENDPOINT, json.dumps({"url": server.url, **server.model_dump(exclude_none=True)}, indent=1) + "\n"
        )
        return server

    def server(self, name: str) -> Server | None:
        """The process that serves this release, None when it does not run. Raises StateError when its record cannot be
        read."""
        recorded = self._recorded(name)
        if (
            recorded and recorded.started is None
        ):  # a record of an earlier version, by the wall clock, which may have been set
            running = (process for process in self._by_program(name) if self._listens(process, recorded.port))
            return next((recorded.model_copy(update=process.model_dump()) for process in running), None)
        return recorded if recorded and engine_server.is_running(recorded) else None

    def healthy(self, name: str) -> bool:
        """Whether this release's engine runs and answers."""
        server = self.server(name)
        return server is not None and engine_server.is_healthy(server)

    def smoke(self, name: str) -> list[dict[str, Any]]:
        """Ask the release's own smoke prompts: every answer must have text. Whether it is JSON is reported, not
        required."""
        from slipway.engines.chat_client import ChatClient  # httpx: a look at the state asks nothing

        server = self.server(name)
        if server is None:
            raise EngineError(
                f"release {name}",
                "its engine died",
                "an engine to ask",
                f"read {self.releases.dir(name) / 'engine.log'}",
            )
        rows = self._smoke_rows(name)
        with ChatClient(server.url, server.model, SMOKE_TIMEOUT_S) as client:
            return [_ask(client, row, name) for row in rows]

    def _smoke_rows(self, name: str) -> list[SmokeRow]:
        file, what = self.releases.dir(name) / "smoke.jsonl", f"smoke prompts of release {name}"
        mend = "put back a copy of it; or delete the release and promote its engine again"
        lines = read_json_lines(file, what, mend)
        return [as_model(SmokeRow, line, f"{what}: {file}, line {n}", mend) for n, line in enumerate(lines, 1)]

    def stop(self, name: str) -> list[Stopped]:
        """End every engine process of this release and forget its endpoint; the processes that were ended.

        A process is found by its record, and by the program that it runs: so it is found when its pid was never written
        down and when the record is damaged.
        """
        try:
            recorded = self._recorded(name)
        except StateError:
            recorded = None
        running: dict[int, ProcessIdentity] = {process.pid: process for process in self._by_program(name)}
        if recorded and recorded.started is not None:
            running[recorded.pid] = recorded
        ended = [pid for pid, process in running.items() if processes.stop(process, STOP_GRACE_S)]
        remove(self.releases.dir(name) / ENDPOINT)
        return [Stopped(name, pid, recorded.url if recorded and recorded.pid == pid else "") for pid in ended]

    def running(self) -> list[str]:
        """Names of the releases out of which an engine runs, also those whose directory somebody deleted."""
        folder, names = self.releases.root / "releases", set[str]()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it ended while we looked, or is another user's
                paths = [Path(path) for path in (process.exe(), *process.cmdline())]
                if os.getsid(process.pid) == process.pid:
                    names |= {path.relative_to(folder).parts[0] for path in paths if folder in path.parents}
        return sorted(name for name in names if re.fullmatch(NAME, name))

    @staticmethod
    def _listens(process: ProcessIdentity, port: int) -> bool:
        return str(port) in processes.command_line(process)

    def _by_program(self, name: str) -> Iterator[ProcessIdentity]:
        """Processes in a session of their own that run out of this release: an evaluation's engine is in its stage's
        session."""
        engine = f"{self.releases.dir(name) / 'engine'}/"
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it ended while we looked, or is another user's
                paths = [process.exe(), *process.cmdline()]
                if os.getsid(process.pid) == process.pid and any(path.startswith(engine) for path in paths):
                    yield processes.identify(process.pid)

    def _recorded(self, name: str) -> Server | None:
        """The process that `endpoint.json` names; None without one, and when only its port was written down yet."""
        file, what = self.releases.dir(name) / ENDPOINT, f"endpoint of release {name}"
        mend = "`slipway stop` ends the engine, whatever the file says, and removes it; then promote or roll back again"
        if not is_present(file):
            return None
        document = read_json(file, what, mend)
        if "pid" not in document and isinstance(document.get("port"), int):
            return None
        return as_model(Server, document, f"{what}: {file}", mend)


def _ask(client: ChatClient, row: SmokeRow, name: str) -> dict[str, Any]:
    answer = client.ask(row.messages[:-1], SMOKE_TOKENS)
    if not answer.text.strip():
        raise EngineError(
            f"release {name}",
            f"empty answer to test row {row.id}",
            "text",
            "read its engine.log; evaluate the engine again",
        )
    return {"id": row.id, "answer": answer.text, "json": _is_json(answer.text), "seconds": round(answer.seconds, 3)}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
