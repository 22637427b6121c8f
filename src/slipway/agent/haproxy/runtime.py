"""HAProxy's admin socket: what its servers do now, and telling them apart without a reload.

One command a connection, an answer until the end of file. A command that changes something answers with an empty line
or with what it changed; anything else is HAProxy's refusal and an error here. Format: HAProxy Management Guide 2.6,
section 9.3 ("Unix Socket commands").
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.haproxy import keyed_slots
from slipway.agent.haproxy.config import ENGINE_OF, SOCKET, ServerState
from slipway.errors import ResourceError

TIMEOUT_S = 10.0
SERVER = re.compile(r"(engine|held|mirror)/(a|b|wait|tee)|slot_[ab]/engine")


@dataclass(frozen=True)
class LiveServer:
    """A server as HAProxy has it: its state, how many requests it answers now, and whether its check passes, if it has
    one."""

    state: ServerState
    sessions: int
    up: bool = True


class AdminSocket:
    """The socket in the proxy's folder. Every method raises ResourceError when nothing answers there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def answers(self) -> bool:
        """Whether a HAProxy listens at the socket."""
        try:
            self.command("show version")
        except ResourceError:
            return False
        return True

    def command(self, text: str) -> str:
        """The answer to one command, stripped."""
        try:
            with self._connected() as connection:
                connection.sendall(f"{text}\n".encode())
                pieces = []
                while piece := connection.recv(65536):
                    pieces.append(piece)
        except OSError as err:
            raise ResourceError(
                f"admin socket {self._folder / SOCKET}",
                err.strerror or str(err),
                "a HAProxy that listens there",
                "`slipway start TARGET` starts it; see haproxy.log beside the socket",
            ) from err
        return b"".join(pieces).decode(errors="replace").strip()

    def info(self) -> dict[str, str]:
        """`show info`: `Pid` (in HAProxy's own pid namespace), `Uptime_sec`, `description`, `CurrConns` ..."""
        lines = (line.partition(":") for line in self.command("show info").splitlines())
        return {name.strip(): value.strip() for name, _, value in lines}

    def servers(self) -> dict[str, LiveServer]:
        """`backend/server` -> what it is now, for the servers of our file; those of keyed slots with their keys."""
        states = _table(self.command("show servers state"), " ")
        keys = self._keys() if any(row["srv_name"] == "engine" for row in states) else {}
        # type 4: servers; -1: every proxy and server
        counts = {f"{row['pxname']}/{row['svname']}": row for row in _table(self.command("show stat -1 4 -1"), ",")}
        return {
            name: LiveServer(
                _state(row, keys.get(name, "")), int(counts[name]["scur"] or 0), int(row["srv_op_state"]) != 0
            )
            for row in states
            if (name := f"{row['be_name']}/{row['srv_name']}") in counts
        }

    def waiting(self) -> int:
        """Requests that wait for an engine: those in backend `held` and in no engine of it."""
        rows = {row["svname"]: row for row in _table(self.command("show stat held 6 -1"), ",")}  # 2 backends, 4 servers
        counts = {name: int(row["scur"] or 0) for name, row in rows.items()}
        return counts.get("BACKEND", 0) - counts.get("a", 0) - counts.get("b", 0)

    def figures(self) -> dict[str, dict[str, int]]:
        """`backend/server` -> since HAProxy started: `requests`, `errors` (no connection, no whole answer, or status
        5xx), `total_ms` (mean of the last 1,024 requests)."""
        rows = _table(self.command("show stat -1 4 -1"), ",")
        return {
            f"{row['pxname']}/{row['svname']}": {
                "requests": int(row.get("stot") or 0),
                "errors": sum(int(row.get(name) or 0) for name in ("econ", "eresp", "hrsp_5xx")),
                "total_ms": int(row.get("ttime") or 0),
            }
            for row in rows
        }

    def ready(self, server: str) -> None:
        """New requests go to `server`."""
        self._change(f"set server {_checked(server)} state ready")

    def drain(self, server: str) -> None:
        """No new request goes to `server`; those in it go on."""
        self._change(f"set server {_checked(server)} state drain")

    def weigh(self, server: str, weight: int) -> None:
        """Its share among the servers that are ready: 1 to 256."""
        self._change(f"set server {_checked(server)} weight {int(weight)}")

    def move(self, server: str, host: str, port: int) -> None:
        """Give `server` another address; what it answers now goes on at the old one."""
        answer = self.command(f"set server {_checked(server)} addr {host} port {int(port)}")
        if "changed from" not in answer and "no need to change" not in answer:
            raise _refused(f"set server {server} addr {host} port {port}", answer)

    def give_key(self, slot: str, key: str) -> None:
        """What the engine of a slot is sent from now on; empty: nothing. A refusal of HAProxy is shown without it."""
        command = f"set map {keyed_slots.KEYS} {slot}"
        if answer := self.command(f"{command} {key or keyed_slots.NO_KEY}"):
            raise _refused(command, answer.replace(key, "KEY") if key else answer)

    def _keys(self) -> dict[str, str]:
        """`section/server` of a slot -> its key, for those that have one; empty where the process knows no such map."""
        rows = [line.split() for line in self.command(f"show map {keyed_slots.KEYS}").splitlines()]
        return {
            ENGINE_OF[row[1]]: row[2]
            for row in rows
            if len(row) == 3 and row[1] in ENGINE_OF and row[2] != keyed_slots.NO_KEY
        }

    def speak_tls(self, server: str, *, tls: bool) -> None:
        """Whether `server` is connected to over TLS from now on. HAProxy says that it did it."""
        command = f"set server {_checked(server)} ssl {'on' if tls else 'off'}"
        if (answer := self.command(command)) and "updated" not in answer:
            raise _refused(command, answer)

    def cut(self, server: str) -> None:
        """End every request in `server`."""
        self._change(f"shutdown sessions server {_checked(server)}")

    def _change(self, text: str) -> None:
        if answer := self.command(text):
            raise _refused(text, answer)

    def _connected(self) -> socket.socket:
        """Connected by way of the folder's descriptor: a socket's path is at most 107 bytes, a target's may be more."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT_S)
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            near = Path(f"/proc/self/fd/{folder}")
            try:
                connection.connect(str((near if near.exists() else self._folder) / SOCKET))
            finally:
                os.close(folder)
        except OSError:
            connection.close()
            raise
        return connection


def _table(text: str, separator: str) -> list[dict[str, str]]:
    """Rows of a table of HAProxy's: its header is the line that begins with `#`."""
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((number for number, line in enumerate(lines) if line.startswith("#")), len(lines))
    header = [name for name in lines[start][1:].strip().split(separator) if name] if start < len(lines) else []
    return [dict(zip(header, line.split(separator), strict=False)) for line in lines[start + 1 :]]


def _state(row: dict[str, str], key: str) -> ServerState:
    """`srv_admin_state` is a set of bits, each a reason why the server gets nothing (maintenance 0x01, drain 0x08 ...),
    but for 0x04: `disabled` in the file, which stays when the server was made ready."""
    ready, tls = int(row["srv_admin_state"]) & ~0x04 == 0, row.get("srv_use_ssl") == "1"
    return ServerState(row["srv_addr"], int(row["srv_port"]), int(row["srv_uweight"]), ready, key=key, tls=tls)


def _checked(server: str) -> str:
    """A server's name, one of ours: a text with `;` or a line end would be a second command."""
    if not SERVER.fullmatch(server):
        raise ValueError(f"{server!r} is no server of the file")
    return server


def _refused(command: str, answer: str) -> ResourceError:
    return ResourceError(
        f"HAProxy, `{command}`",
        answer,
        "no objection",
        "`slipway start TARGET` brings file and process together again",
    )
