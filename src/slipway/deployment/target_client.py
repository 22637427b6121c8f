"""How promotion talks to a target, wherever it is: the agent's verbs, blobs to its `incoming/`, and its loopback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from slipway.agent.agent import Agent
from slipway.system.files import disk_full_is_named

Note = Callable[[str], None]
Document = dict[str, Any]


class TargetClient(Protocol):
    """One open conversation with a target; what holds the target's lock is held until it is closed."""

    def call(self, verb: str, document: Document, note: Note = ...) -> Document:
        """The result of a verb of the agent. Raises what the verb raises, ResourceError for a lost link."""

    def copy(self, blobs: Path, sizes: Mapping[str, int], note: Note = ...) -> int:
        """Bring blobs (digest -> bytes, files of the folder `blobs` by that name) into the target's `incoming/`; the
        bytes that are there then. Raises ResourceError for a lost link or a full disk; what arrived stays."""

    def reach(self, port: int) -> AbstractContextManager[int]:
        """A port of this machine's loopback that leads to `port` of the target's, for the time of the block."""


class LocalClient:
    """A target on this machine: the agent in this process."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """As the agent answers."""
        return self._agent.call(verb, document, note)

    def copy(self, blobs: Path, sizes: Mapping[str, int], note: Note = lambda _: None) -> int:
        """Copies, never hard links: the agent cuts the files that it takes in."""
        incoming = self._agent.paths.incoming
        with disk_full_is_named(incoming):
            incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            for digest in sizes:
                partial = incoming / f".{digest}.{os.getpid()}"
                shutil.copyfile(blobs / digest, partial)
                partial.replace(incoming / digest)
        total = sum(sizes.values())
        note(f"copied {len(sizes)} blobs, {total / 1e9:.2f} GB")
        return total

    @contextmanager
    def reach(self, port: int) -> Iterator[int]:
        """The port itself."""
        yield port
