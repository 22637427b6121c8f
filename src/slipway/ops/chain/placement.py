"""Where each stage of the chain runs, and what crosses the link for it: the machine of `remote.host`, or this one.

to the machine    an input that is made or lies here and is not in its store
here              files that lie on another machine and that a stage here reads; of what is made there, files up to
                  `remote.keep_mb`, whose sizes nobody knows before
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slipway.pipeline.ensure_there import THERE, needed
from slipway.pipeline.remote_machine import RemoteMachine, key_there
from slipway.store.artifacts import Artifact
from slipway.store.placed import placed

HERE = "here"


@dataclass(frozen=True)
class Move:
    """An artifact that crosses the link for a stage: its kind with the first digits of its digest, or which stage makes
    it; the address that it goes to, or `here`; bytes, by its manifest, 0 where it is not made yet."""

    what: str
    to: str
    bytes: int


class Placement:
    """Where stages of a run go. The machine is asked what it has, once and at the beginning: one that does not answer
    refuses the run before any work. Raises what `RemoteMachine.ask` raises."""

    def __init__(self, machine: RemoteMachine | None) -> None:
        self.machine = machine
        self._inventory = machine.inventory() if machine else {}
        self._sent: set[str] = set()  # of this plan: a second stage finds it there

    def address(self, stage: str) -> str:
        """The machine that a stage runs on; empty for this one."""
        return self.machine.address if self.machine and stage in THERE else ""

    def has(self, stage: str, kind: str, key: str) -> bool:
        """Whether what a stage would make is in the store of its machine already, which is not this one."""
        return bool(self.address(stage)) and f"{kind}/{key}" in self._inventory

    def lost(self, artifact: Artifact) -> str:
        """The machine that has lost the files of an artifact which are not here; empty where they are as they were."""
        there = placed(artifact.path)
        if there is None or self.machine is None or not self.machine.holds(there):
            return ""
        return "" if self._is_there(artifact) else there.address

    def moves(self, stage: str, inputs: Iterable[Artifact], made_here: Iterable[str]) -> tuple[Move, ...]:
        """What crosses the link for a stage that runs: of `inputs`, which are there already, and of what the stages
        `made_here` make on this machine before it."""
        read = {one.digest: one for artifact in inputs for one in needed(artifact)}.values()
        address = self.address(stage)
        if not address:
            return tuple(filter(None, (_brought(one) for one in read))) if stage in THERE else ()
        sent = [one for one in read if one.digest not in self._sent and not self._is_there(one)]
        titles = [title for title in made_here if title not in self._sent]
        self._sent |= {one.digest for one in sent} | set(titles)
        later = [Move(f"what {title} makes", address, 0) for title in titles]
        return (*(Move(_name(one), address, _bytes(one)) for one in sent), *later)

    def _is_there(self, artifact: Artifact) -> bool:
        return self._inventory.get(f"{artifact.kind}/{key_there(artifact)}") == artifact.digest


def _brought(artifact: Artifact) -> Move | None:
    """The files that a stage here has brought."""
    there = placed(artifact.path)
    if there is None:
        return None
    sizes = {file["path"]: file["size"] for file in artifact.manifest["files"]}
    return Move(_name(artifact), HERE, sum(sizes.get(name, 0) for name in there.files))


def _name(artifact: Artifact) -> str:
    return f"{artifact.kind} {artifact.digest[:12]}"


def _bytes(artifact: Artifact) -> int:
    return sum(file["size"] for file in artifact.manifest["files"])
