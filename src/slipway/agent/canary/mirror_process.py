"""The mirror as a process of its own: started, asked, and ended by whoever finds it.

    <folder>/mirror.json   what it was started with
    <folder>/mirror.sock   its admin socket, mode 0600: one JSON request a connection, one JSON answer
    <folder>/mirror.log    its stderr

Run as `python -m slipway.agent.canary.mirror_process FOLDER`. SIGTERM: it answers
what it has, then ends; it listens until then, for its check is a request too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import slipway.errors
from slipway.agent.canary.captured import CapturedPrompts
from slipway.agent.canary.mirror import AT_ONCE, Mirror
from slipway.agent.engine_key import EngineAccess, read_key
from slipway.agent.files import write_atomic
from slipway.agent.records import Fields, read_json
from slipway.errors import ResourceError

CONFIG, SOCKET, LOG = "mirror.json", "mirror.sock", "mirror.log"
START_LIMIT_S = 15.0
_NEXT = "read mirror.log beside it; `slipway start TARGET` routes requests past it"


@dataclass(frozen=True)
class MirrorConfig:
    """`champion`, `candidate`: (host, port), the second None to capture only; `capture`: the folder of captured
    prompts, None where nothing is stored; `timeout_s`: longest answer of the candidate; `champion_key`,
    `candidate_key`: files of the keys that the engines ask for, `champion_ca`, `candidate_ca`: of what signed their
    certificates, empty for none."""

    champion: tuple[str, int]
    candidate: tuple[str, int] | None = None
    capture: str | None = None
    at_once: int = AT_ONCE
    timeout_s: float = 600.0
    drain_s: float = 600.0
    champion_key: str = ""
    candidate_key: str = ""
    champion_ca: str = ""
    candidate_ca: str = ""


class MirrorProcess:
    """The mirror of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._replaced: list[int] = []

    def start(self, config: MirrorConfig) -> tuple[str, int]:
        """Start it with this config; where it listens. One that ran answers what it gets until `end_replaced`. Raises
        ResourceError with the end of its log when it does not come up."""
        self._leave()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._folder / CONFIG, json.dumps(asdict(config)))
        packages = str(Path(slipway.errors.__file__).parents[1])  # a folder, or the one file of `slipway-target`
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "slipway.agent.canary.mirror_process", str(self._folder)],
            {**os.environ, "PYTHONPATH": packages},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self._folder / LOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        deadline = time.monotonic() + START_LIMIT_S
        while (status := self.status()) is None or status["pid"] != pid:
            if _has_ended(pid) or time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
                end = (self._folder / LOG).read_text(encoding="utf-8", errors="replace")[-1000:]
                raise ResourceError("mirror", end or "it said nothing", "a process that answers", _NEXT)
            time.sleep(0.05)
        return "127.0.0.1", int(status["port"])

    def status(self) -> dict[str, Any] | None:
        """`pid`, `port`, what it was started with, and its counts; None when none runs."""
        return self._ask({"do": "status"})

    def fetch(self, most: int) -> list[dict[str, Any]]:
        """Up to `most` pairs of answers; each is given once. Raises ResourceError when none runs."""
        answer = self._ask({"do": "fetch", "most": most})
        if answer is None:
            raise ResourceError(f"mirror in {self._folder}", "does not run", "one that runs", _NEXT)
        return list(answer["pairs"])

    def end_replaced(self) -> None:
        """Let those that were replaced answer what they have and end by themselves, at most `drain_s` seconds from now;
        nothing waits here."""
        for pid in self._replaced:
            _signal(pid, signal.SIGTERM)
        self._replaced.clear()

    def dismiss(self) -> None:
        """As `end_replaced`, of the one that runs too."""
        self._leave()
        self.end_replaced()

    def _leave(self) -> None:
        """Give its place in the folder to another."""
        status = self.status()
        if status is not None:
            (self._folder / SOCKET).unlink(missing_ok=True)
            self._replaced.append(int(status["pid"]))

    def stop(self, wait_s: float = 0.0) -> dict[str, Any] | None:
        """End it, after what it answers now and at most `wait_s` seconds; its last status, None when none ran."""
        self.end_replaced()
        status = self.status()
        if status is None:
            return None
        pid = int(status["pid"])
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + wait_s
        while self.status() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(pid, signal.SIGKILL)
        while not _has_ended(pid):
            time.sleep(0.01)
        (self._folder / SOCKET).unlink(missing_ok=True)
        return status

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of the process; None when none listens, or one ends just now."""
        try:
            with _connected(self._folder) as connection:
                connection.sendall(json.dumps(request).encode() + b"\n")
                pieces = []
                while piece := connection.recv(65536):
                    pieces.append(piece)
            answer = json.loads(b"".join(pieces))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None


def _connected(folder: Path) -> socket.socket:
    """Connected by way of the folder's descriptor: a socket's path is at most 107 bytes, a target's may be more."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        finally:
            os.close(descriptor)
    except OSError:
        connection.close()
        raise
    return connection


def _has_ended(pid: int) -> bool:
    """Whether the process is gone; one that this process started is reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # of another process, which reaps it
        return not Path(f"/proc/{pid}").exists()


def _signal(pid: int, kind: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, kind)


def read_config(folder: Path) -> MirrorConfig:
    """What the mirror of `folder` is to do. Raises StateError for a damaged file."""
    fields = Fields(read_json(folder / CONFIG, "mirror's config", _NEXT), f"mirror's config: {folder / CONFIG}", _NEXT)
    document = read_json(folder / CONFIG, "mirror's config", _NEXT)
    host, port = document["champion"]
    candidate = document.get("candidate")
    return MirrorConfig(
        (str(host), int(port)),
        (str(candidate[0]), int(candidate[1])) if candidate else None,
        fields.text("capture", "") or None,
        fields.integer("at_once", AT_ONCE),
        fields.number("timeout_s", 600.0),
        fields.number("drain_s", 600.0),
        fields.text("champion_key", ""),
        fields.text("candidate_key", ""),
        fields.text("champion_ca", ""),
        fields.text("candidate_ca", ""),
    )


async def serve(folder: Path, config: MirrorConfig) -> None:
    """Run until SIGTERM. Raises StateError for an engine's key that cannot be read."""
    keep = CapturedPrompts(Path(config.capture)).keep if config.capture else None
    mirror = Mirror(
        config.champion,
        config.candidate,
        keep=keep,
        at_once=config.at_once,
        timeout_s=config.timeout_s,
        champion_access=EngineAccess(read_key(config.champion_key), config.champion_ca),
        candidate_access=EngineAccess(read_key(config.candidate_key), config.candidate_ca),
    )
    server = await mirror.listen()
    port = int(server.sockets[0].getsockname()[1])
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def admin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            request = json.loads(await reader.readline())
            if request["do"] == "fetch":
                answer: dict[str, Any] = {"pairs": mirror.fetch(int(request["most"]))}
            else:
                answer = {"pid": os.getpid(), "port": port, "config": asdict(config), **mirror.status()}
            writer.write(json.dumps(answer).encode())
            await writer.drain()
        writer.close()

    os.chdir(folder)  # for the short path of the socket
    Path(SOCKET).unlink(missing_ok=True)
    os.umask(0o177)
    await asyncio.start_unix_server(admin, SOCKET)
    os.umask(0o077)
    await stopping.wait()
    await mirror.settle(config.drain_s)
    server.close()


def main() -> None:
    """Serve the folder that the command line names."""
    folder = Path(sys.argv[1]).resolve()
    asyncio.run(serve(folder, read_config(folder)))


if __name__ == "__main__":
    main()
