"""The process of HAProxy: found, checked, started, reloaded and ended; known by the folder in its command line.

`-D` returns when the addresses are bound and says on stderr why not; the process then belongs to nobody who may end.
Whoever started it (a command, a boot, an earlier version), it is found again by `-C FOLDER` in its arguments: no record
can be stale, and a forgotten second one is seen.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slipway.agent.haproxy.config import SOCKET
from slipway.agent.haproxy.listeners import command_line, process_ids
from slipway.errors import ResourceError

CONFIG = "haproxy.cfg"
OLDEST = (2, 4)  # Ubuntu 22.04's; DGX OS 7 has 2.8, Debian 12 2.6
CONTAINER_ENGINES = ("docker", "podman")
COMMAND_LIMIT_S = 60.0
STOP_GRACE_S = 5.0
POLL_S = 0.05
INSTALL = (
    "install it (`apt-get install haproxy`), or set deploy.proxy.kind=none: the port then changes with every switch"
)


def find_haproxy(command: tuple[str, ...]) -> tuple[str, ...] | None:
    """`command` with the whole path of its program; None when this machine has no such program.

    `haproxy` is looked for where packages put daemons too, which a user's PATH leaves out.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    program = shutil.which(command[0], path=path)
    return (program, *command[1:]) if program else None


class HAProxyProcess:
    """HAProxy with the config file `haproxy.cfg` of one folder."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self._folder = folder
        self._command = command

    def require(self) -> None:
        """ResourceError unless HAProxy is installed, in a version that has what the config file uses.

        A container is not asked: its image is chosen by digest, and asking might pull it.
        """
        if self._in_container:
            return
        output = self._run(["-v"], "be asked for its version")
        match = re.search(r"version (\d+)\.(\d+)", output)
        if match is None or (int(match[1]), int(match[2])) < OLDEST:
            value = output.splitlines()[0] if output else "no version"
            raise ResourceError("HAProxy", value, f"{'.'.join(map(str, OLDEST))} or newer", INSTALL)

    def check(self, file: str) -> None:
        """ResourceError when HAProxy refuses this config file of the folder (`haproxy -c`)."""
        self._run(["-C", str(self._folder), "-f", file, "-c"], f"accept {file}")

    def start(self) -> None:
        """Start it; returns when it listens. Raises ResourceError with what it said otherwise."""
        (self._folder / SOCKET).unlink(missing_ok=True)  # of a process that was killed
        self._run(self._arguments(), "start", detached=True)

    def reload(self) -> bool:
        """Put a new process in its place, which takes the listening sockets over; the old one ends with its requests.

        Clients' idle connections are closed by it, so a POST on its way may be lost: for changed settings only. A
        container has no pid that the other could signal: there it is ended and started, and this returns False.
        """
        running = [str(pid) for pid in self.pids()]
        if self._in_container or not running:
            self.stop()
            self.start()
            return False
        self._run([*self._arguments(), "-x", SOCKET, "-sf", *running], "reload")
        return True

    def pids(self) -> list[int]:
        """Processes that run with this folder's config file, starting and ending ones included."""
        return [pid for pid in process_ids() if self._is_ours(command_line(pid))]

    def stop(self) -> int:
        """End them at once, requests included: SIGTERM, then SIGKILL; how many there were."""
        pids = self.pids()
        for kind in (signal.SIGTERM, signal.SIGKILL):
            for pid in set(pids) & set(self.pids()):
                with suppress(ProcessLookupError):
                    os.kill(pid, kind)
            if wait_until(lambda: not set(pids) & set(self.pids()), STOP_GRACE_S):
                break
        return len(pids)

    @property
    def _in_container(self) -> bool:
        return Path(self._command[0]).name in CONTAINER_ENGINES

    def _arguments(self) -> list[str]:
        # a container lives as long as its first process, so that one must stay
        return ["-db" if self._in_container else "-D", "-C", str(self._folder), "-f", CONFIG]

    def _is_ours(self, arguments: tuple[str, ...]) -> bool:
        if "-C" not in arguments or "-c" in arguments or Path(arguments[0]).name in CONTAINER_ENGINES:
            return False
        after = arguments[arguments.index("-C") + 1 :]
        return after[:1] == (str(self._folder),) and CONFIG in after

    def _run(self, arguments: list[str], purpose: str, *, detached: bool = False) -> str:
        """Its output. `detached`: a container goes on by itself. Raises ResourceError when there is no HAProxy, or it
        fails."""
        command = find_haproxy(self._command)
        if command is None:
            raise ResourceError("HAProxy", f"no program {self._command[0]}", "HAProxy on the target", INSTALL)
        argv = [part.replace("{folder}", str(self._folder)) for part in command] + arguments
        if detached and self._in_container:
            argv.insert(argv.index("run") + 1, "--detach")
        try:
            done = subprocess.run(
                argv,
                cwd=self._folder if self._folder.is_dir() else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_LIMIT_S,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as err:  # ValueError: a zero byte in an argument
            raise ResourceError("HAProxy", str(err), f"to {purpose}", INSTALL) from err
        output = done.stdout.decode(errors="replace").strip()
        if done.returncode != 0:
            reason = "\n".join(line for line in output.splitlines() if "[ALERT]" in line) or output
            raise ResourceError(
                "HAProxy", reason, f"to {purpose}", "mend what it names; the config file is written by us"
            )
        return output


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Poll until `condition` holds; False when it did not within `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
