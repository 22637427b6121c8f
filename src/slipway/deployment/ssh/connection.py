"""One connection to a target: a master of OpenSSH's multiplexing, and over it sessions, copies and tunnels.

    ssh -M -N -S DIR/m ... user@host      the master: logs in once, ends when the link has been silent for 3 keepalives
    ssh -S DIR/m user@host session        what runs over it: no second login, no way around the master

All that runs over a cut connection ends within seconds of each other, so that one error says so.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh import options as ssh_options
from slipway.errors import LinkLostError, ResourceError, SlipwayError
from slipway.system.ports import PORT_TRIES, any_port, is_free

POLL_S = 0.05
CLOSE_S = 5.0


class SshConnection:
    """An open connection; `open_connection` makes one."""

    def __init__(self, params: SshConfig, folder: Path, master: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.params = params
        self._socket, self._master, self._errors = folder / "m", master, errors

    @property
    def is_open(self) -> bool:
        """Whether the master runs; a cut link ends it after three keepalives."""
        return self._master.poll() is None

    def shell(self) -> list[str]:
        """`ssh` and its options for something that runs over this connection or not at all."""
        # without the master's socket ssh would open a connection of its own: through `false` it cannot
        return ["ssh", "-F", "none", "-S", str(self._socket), "-o", "BatchMode=yes", "-o", "ProxyCommand=false", "-T"]

    def argv(self, command: str) -> list[str]:
        """The command line that runs `command` on the target."""
        return [*self.shell(), "--", ssh_options.login(self.params), command]

    def error(self, phase: str) -> SlipwayError:
        """Why something over this connection ended, once `is_open` is false or about to be."""
        with suppress(subprocess.TimeoutExpired):
            self._master.wait(4 * self.params.keepalive_s)
        message = self.messages()
        if self.is_open:
            next_step = "run again; if it ends again, look into the log of the target's sshd"
            return LinkLostError(f"{phase} on {self.params.host}", "the session ended", "an answer", next_step)
        cause = ssh_options.login_error(self.params, message)
        return LinkLostError(
            f"{phase} on {self.params.host}",
            f"link lost: {cause.value}",
            "a link that stays up",
            "the target keeps or finishes what it had recorded, else undoes it; `slipway status`, then run again",
        )

    def messages(self) -> str:
        """What the master wrote on its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """A port of this machine's loopback that leads to `port` of the target's loopback, while it is open.

        Raises ResourceError when the target refuses it: its set-up names the ports that it allows.
        """
        here = self._forwarded(port)
        forward = f"127.0.0.1:{here}:127.0.0.1:{port}"
        try:
            yield here
        finally:
            with suppress(ResourceError):  # a lost link has no tunnels
                self._control("cancel", forward, port)

    def close(self) -> None:
        """End the master and all that runs over it."""
        self._master.terminate()
        try:
            self._master.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        self._errors.close()
        shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _forwarded(self, port: int) -> int:
        """A free port here that leads there from now on; one that another process takes first is left to it."""
        for tries_left in reversed(range(PORT_TRIES)):
            here = any_port()
            try:
                self._control("forward", f"127.0.0.1:{here}:127.0.0.1:{port}", port)
            except ResourceError:
                if tries_left and not is_free("127.0.0.1", here):
                    continue
                raise
            return here
        raise AssertionError("not reached")

    def _control(self, request: str, forward: str, port: int) -> None:
        argv = [*self.shell(), "-O", request, "-L", forward, "--", ssh_options.login(self.params)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            next_step = "`slipway target set-up` again, when deploy.ports were changed since"
            thing = f"tunnel to port {port} of {self.params.host}"
            raise ResourceError(thing, done.stderr.strip() or "refused", "a port that the set-up allows", next_step)


@contextmanager
def open_connection(
    params: SshConfig, options: list[str] | None = None, login_s: float | None = None
) -> Iterator[SshConnection]:
    """Log in and stay logged in for the time of the block.

    `options`: ssh's arguments for the login, default those of `ssh_options.options`; `login_s`: longest wait for it,
    default twice the connect timeout. Raises ConfigError for an unknown or changed host key, a refused key and a target
    that was not set up from here; ResourceError for a machine that does not answer.
    """
    if options is None:
        ssh_options.check_files(params)
        options = ssh_options.options(params)
    folder = Path(tempfile.mkdtemp(prefix="slw-"))  # 0700, and short: a unix socket's path has at most 107 bytes
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the connection)
    try:
        argv = ["ssh", "-M", "-N", "-S", str(folder / "m"), *options, "-o", "ControlPersist=no"]
        master = subprocess.Popen(
            [*argv, "--", ssh_options.login(params)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    except BaseException as err:
        errors.close()
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(err, FileNotFoundError):
            raise ResourceError("ssh", "not installed", "OpenSSH's client", "install openssh-client") from err
        raise
    connection = SshConnection(params, folder, master, errors)
    try:
        _wait(connection, folder / "m", login_s or 2 * params.connect_timeout_s)
        yield connection
    finally:
        connection.close()


def _wait(connection: SshConnection, socket: Path, login_s: float) -> None:
    """Until the master takes commands: its socket is there only after the login."""
    deadline = time.monotonic() + login_s
    while not socket.exists():
        if not connection.is_open:
            raise ssh_options.login_error(connection.params, connection.messages())
        if time.monotonic() > deadline:
            raise ssh_options.login_error(connection.params, "login timed out")
        time.sleep(POLL_S)
