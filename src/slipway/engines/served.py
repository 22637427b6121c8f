"""What `slipway serve` leaves: a folder for each directory that it served, and which of them go when room is short.

    ROOT/room.lock                 held while a server takes its folder, and by whoever removes one
    ROOT/<12 hex>/served.json      the directory that is served; its mtime is when it was last asked for
    ROOT/<12 hex>/bundle           what was made of a model directory
    ROOT/<12 hex>/server-N/        a server's record, log and caches; `.lock` is held by the command that serves

A folder is in use while a command holds it, or while its record names a server that a killed command left: the next
`slipway serve` adopts it. What is in use is never removed; all else can be made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from slipway.engines.cache_space import folder_bytes
from slipway.errors import StateError
from slipway.runners import local
from slipway.runners.base import SERVING, Job, read_job_file
from slipway.system.files import remove, write_atomic
from slipway.system.json_files import read_json
from slipway.system.locks import is_held, locked

OWNER, ROOM, LOCK = "served.json", "room.lock", ".lock"
HOME = re.compile(r"[0-9a-f]{12}")
ROOM_S = 60.0


@dataclass(frozen=True)
class Served:
    """One folder. `directory`: what is served, empty where nobody wrote it down; `used`: seconds since the epoch;
    `ports` of servers that a command holds; `left`: of those that a killed one left."""

    home: Path
    directory: str
    nbytes: int
    used: float
    ports: tuple[int, ...]
    left: tuple[int, ...]
    being_made: bool

    @property
    def in_use(self) -> bool:
        """Whether somebody serves from it or makes it, or a server of it may live."""
        return bool(self.ports or self.left or self.being_made)


def room(root: Path) -> AbstractContextManager[None]:
    """Held while a server's folder is taken or removed. Raises ResourceError after a minute."""
    return locked(root / ROOM, ROOM_S, "slipway serve", of=f"folders in {root}")


def mark(home: Path, directory: Path) -> None:
    """Note that `directory` is asked for now."""
    home.mkdir(parents=True, exist_ok=True)
    write_atomic(home / OWNER, json.dumps({"directory": str(directory.resolve())}) + "\n")


def make_room(root: Path, limit_bytes: int, keep: Path) -> list[Served]:
    """Remove folders that are not in use, least recently asked for first, until all take `limit_bytes` at most; returns
    what went. `keep` stays, and what is in use may alone take more. The caller holds `room`."""
    folders = sorted(served_folders(root), key=lambda one: one.used)
    total, gone = sum(one.nbytes for one in folders), []
    for one in folders:
        if total > limit_bytes and one.home != keep and not one.in_use:
            remove(one.home)
            total -= one.nbytes
            gone.append(one)
    return gone


def served_folders(root: Path) -> Iterator[Served]:
    """Every folder of `slipway serve` in `root`, by name. What it did not make is left out."""
    for home in sorted(root.glob("*")):
        if HOME.fullmatch(home.name) and home.is_dir() and not home.is_symlink():
            yield _served(home)


def _served(home: Path) -> Served:
    held, left = [], []
    for work in sorted(home.glob("server-*")):
        port = _port(work)
        if is_held(work / LOCK):
            held.append(port)
        elif port and _may_live(work):
            left.append(port)
    file = home / OWNER
    used = (file if file.is_file() else home).stat().st_mtime
    made = is_held(home / LOCK)
    return Served(home, _directory(file), folder_bytes(home), used, tuple(held), tuple(left), made)


def _directory(file: Path) -> str:
    try:
        return str(read_json(file, "what is served", f"delete {file.parent}").get("directory", ""))
    except StateError:
        return ""


def _port(work: Path) -> int:
    """The recorded port; 0 before there is one."""
    try:
        return int(read_job_file(work / SERVING).get("port", 0))
    except (StateError, ValueError, TypeError):
        return 0


def _may_live(work: Path) -> bool:
    """Whether the server of a record lives. One that is no process of this machine may: only its runner knows."""
    try:
        job = Job(str(read_job_file(work / SERVING).get("name")), (), work)
    except StateError:
        return False
    return local.alive(job) if (work / local.JOB_FILE).is_file() else True
