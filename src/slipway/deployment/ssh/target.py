"""A target behind ssh: one connection, over it a session of the agent, copies of blobs and tunnels to its loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from slipway.agent.forced_command import SESSION
from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.agent_session import AgentSession, Document, Note, open_session
from slipway.deployment.ssh.connection import SshConnection, open_connection
from slipway.deployment.ssh.options import SET_UP, copy_address, session_refusal
from slipway.errors import ConfigError, LinkLostError, ResourceError, SlipwayError
from slipway.system import rsync

NOTE_EVERY_S = 5.0  # between two lines about a copy
MARGIN = 0.02  # of what is copied: a file system's own books


class SshSession:
    """An open conversation with a target; `open_target` makes one."""

    def __init__(self, connection: SshConnection, session: AgentSession) -> None:
        self._connection, self._session = connection, session

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises what the verb raises there; ResourceError, naming the verb, for a lost link."""
        return self._session.call(verb, document, note)

    def copy(self, blobs: Path, sizes: Mapping[str, int], note: Note = lambda _: None) -> int:
        """Send blobs (digest -> bytes, files of the folder `blobs` by that name) into the target's `incoming/`, going
        on where an earlier copy ended; the bytes that are there then. Raises ResourceError before the first byte when
        the target has no room for them, and for a lost link."""
        total = sum(sizes.values())
        self._check_room(total, max(sizes.values(), default=0))
        if not sizes:
            return 0
        params, last = self._connection.params, time.monotonic()

        def show(progress: rsync.Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= NOTE_EVERY_S:
                last = time.monotonic()
                note(f"copying to {params.host}: {progress}")

        try:
            copied = rsync.send(
                sorted(sizes),
                blobs,
                f"{copy_address(params)}:incoming/",
                self._connection.shell(),
                total=total,
                on_progress=show,
                limit_mb_s=params.bandwidth_mb_s,
            )
        except ResourceError as err:
            raise self._copy_error(err) from err
        note(f"copied {len(sizes)} blobs to {params.host}: {copied}")
        return copied.done

    def tunnel(self, port: int) -> AbstractContextManager[int]:
        """A port of this machine's loopback that leads to `port` of the target's, for the time of the block. Raises
        ResourceError for a port that the set-up does not allow."""
        return self._connection.tunnel(port)

    def _check_room(self, total: int, largest: int) -> None:
        """What arrives and, on a file system that cannot cut a file's head, the largest layer a second time."""
        free = int(self.call("probe", {})["disk"]["free"])
        needed = round((total + largest) * (1 + MARGIN))
        if needed > free:
            raise ResourceError(
                f"disk of {self._connection.params.host}",
                f"{free / 1e9:.2f} GB free",
                f"{needed / 1e9:.2f} GB for what is copied and its unpacking",
                "`slipway gc` on that target removes releases that are not needed; nothing was copied",
            )

    def _copy_error(self, err: ResourceError) -> ResourceError:
        if "No space left" in str(err.value):
            return err
        if refused := session_refusal(self._connection.params, str(err.value)):
            return refused
        thing = f"copy to {self._connection.params.host}"
        return LinkLostError(thing, err.value, "a link that stays up", "run again: it goes on from there")


@contextmanager
def open_target(params: SshConfig) -> Iterator[SshSession]:
    """Log in and open a session for the time of the block.

    Raises ConfigError for keys, a login that is no target, and an agent of another version; ResourceError for a
    machine that does not answer.
    """
    with open_connection(params) as connection:

        def ended(phase: str, words: str) -> SlipwayError:
            if phase == SESSION and connection.is_open:
                expected = "a target that was set up"
                return ConfigError(f"session on {params.host}", f"the login runs no agent: {words}", expected, SET_UP)
            return connection.error(phase)

        with open_session(connection.argv(SESSION), params.host, ended) as session:
            yield SshSession(connection, session)
