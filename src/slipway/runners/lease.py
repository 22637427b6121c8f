"""The lease on a machine's accelerator: one piece of work at a time, the more urgent first, each known by its name.

    <folder>/holder.lock            the kernel's lock of whoever works, with a record of who that is
    <folder>/waiting/2-<ns>-<pid>   a wish: its priority and time are its name, the kernel's lock says that it lives

A lock ends with its process, so whoever is killed holds nothing and waits for nothing from then on. A stage process
that outlives its killed orchestrator is work all the same: its record stays, and until it ends others wait for it, but
not the run that takes it up again. Whoever waits asks again each POLL_S. Work that may be preempted asks `wanted` and
ends itself at a checkpoint. The folder is one for each machine: SLIPWAY_LEASE, which all its users can write, else
`<store.cache>/lease/<host>`. Files in it are written by whoever may write the folder. docs/adr/0051-lease.md says why.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

from slipway.errors import ResourceError
from slipway.runners import local
from slipway.runners.base import Job
from slipway.system.files import disk_full_is_named
from slipway.system.locks import FOREVER, is_held, lock_open_file

POLL_S = 0.5
SAY_EVERY_S = 60.0
ENVIRONMENT = "SLIPWAY_LEASE"
_HOLDER, _WAITING = "holder.lock", "waiting"
_held: set[Path] = set()  # folders whose lease this process has: what it does under it needs no other


class Priority(IntEnum):
    """Who goes first."""

    SERVING = 0
    EVALUATION = 1
    BUILD = 2
    TRAINING = 3
    TUNING = 4


@dataclass(frozen=True)
class Wish:
    """`name`: what wants to work, for people. `work`: work folder of its stage process, empty where there is none."""

    name: str
    priority: Priority
    work: str = ""


@dataclass(frozen=True)
class Held:
    """Who has the lease: its wish, process and since when, seconds of the epoch."""

    name: str
    priority: int
    work: str
    pid: int
    since: float

    def __str__(self) -> str:
        return f"{self.name}, pid {self.pid}, for {max(0.0, time.time() - self.since):.0f} s"


@dataclass(frozen=True)
class Waiting:
    """A wish that waits: its name, priority and process, and since when, seconds of the epoch."""

    name: str
    priority: int
    pid: int
    since: float


@dataclass(frozen=True)
class Turns:
    """Who works and who waits, the first in turn first. `followed`: whether the holder's own process lives; without it
    a stage works on that no run follows. `problem`: why nobody can tell, empty where it is known."""

    holder: Held | None
    followed: bool
    waiting: tuple[Waiting, ...]
    problem: str = ""


class Lease:
    """A lease that is held: who of higher priority waits for it."""

    def __init__(self, folder: Path, wish: Wish) -> None:
        self._folder, self._wish = folder, wish

    def wanted(self) -> str:
        """The name of the first wish that is more urgent than this one; empty where none waits."""
        first = next(iter(waiting(self._folder)), None)
        return first.name if first and first.priority < self._wish.priority else ""


def lease_folder(cache: Path) -> Path:
    """The folder of this machine's lease."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given) if given else cache.expanduser() / "lease" / platform.node()


@contextmanager
def leased(
    folder: Path, wish: Wish, note: Callable[[str], None] = lambda _: None, wait_s: float = FOREVER
) -> Iterator[Lease]:
    """Hold the lease of `folder` in the block, after the more urgent and the earlier; `note` is told for whom it waits.

    Raises ResourceError naming the holder when `wait_s` is over, and for a folder that cannot be written.
    """
    folder = folder.absolute()
    if folder in _held:
        yield Lease(folder, wish)
        return
    with disk_full_is_named(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _WAITING).is_dir():
                (folder / _WAITING).mkdir(exist_ok=True)
                (folder / _WAITING).chmod(stat.S_IMODE(folder.stat().st_mode))
            file = _take(folder, wish, note, wait_s)
        except PermissionError as err:
            hint = f"set {ENVIRONMENT} to a folder that every user of this machine can write"
            raise ResourceError(f"lease {folder}", err.strerror, "a folder that this user can write", hint) from err
    with file:
        _held.add(folder)
        try:
            yield Lease(folder, wish)
        finally:
            _held.discard(folder)
            file.truncate(0)


def holder(folder: Path) -> Held | None:
    """Who has the lease now: a process that lives, or the stage that outlived one; None when it is free."""
    record = _record(folder)
    if record is None or is_held(folder / _HOLDER) or _stage_lives(record.work):
        return record
    return None


def waiting(folder: Path) -> list[Waiting]:
    """The wishes that wait, the first in turn first. What killed ones left is removed."""
    return [wish for _, wish in _queue(folder)]


def turns(folder: Path) -> Turns:
    """Who has the lease of `folder` and who waits, for people; nothing is raised for a folder that cannot be read."""
    try:
        if folder.is_dir():
            (folder / _HOLDER).open("rb").close()
            list((folder / _WAITING).iterdir())
    except FileNotFoundError:
        pass  # nobody worked yet
    except OSError as err:
        return Turns(None, False, (), f"{err.filename}: {err.strerror}")
    held = holder(folder)
    return Turns(held, held is not None and is_held(folder / _HOLDER), tuple(waiting(folder)))


def _take(folder: Path, wish: Wish, note: Callable[[str], None], wait_s: float) -> IO[str]:
    ours = folder / _WAITING / f"{int(wish.priority)}-{time.time_ns():020d}-{os.getpid()}"
    deadline, noted = time.monotonic() + wait_s, -FOREVER
    hidden = ours.with_name(f".{ours.name}")
    with hidden.open("w", encoding="utf-8") as mark:
        lock_open_file(mark)
        mark.write(wish.name)
        mark.flush()
        hidden.chmod(0o644)
        hidden.rename(ours)  # it appears with its lock: one without is a killed wish's
        try:
            while (file := _try(folder, wish, ours)) is None:
                now = time.monotonic()
                who = str(holder(folder) or next((one.name for one in waiting(folder)), "another"))
                if now >= deadline:
                    raise ResourceError(
                        f"lease for {wish.name}",
                        f"held by {who}",
                        f"to be free within {wait_s:.0f} s",
                        "let that end, or `slipway stop`",
                    )
                if now - noted >= SAY_EVERY_S:
                    noted = now
                    note(f"waits for this machine: {who}")
                time.sleep(POLL_S)
            return file
        finally:
            ours.unlink(missing_ok=True)


def _try(folder: Path, wish: Wish, ours: Path) -> IO[str] | None:
    """The lock, where it is free and this wish's turn."""
    if next((path for path, _ in _queue(folder)), ours) != ours:
        return None
    file = _holder_file(folder)
    if lock_open_file(file):
        before = _record(folder)
        if before is None or before.work == wish.work or not _stage_lives(before.work):
            file.truncate(0)
            held = Held(wish.name, int(wish.priority), wish.work, os.getpid(), round(time.time(), 3))
            file.write(json.dumps(asdict(held)))
            file.flush()
            return file
    file.close()
    return None


def _holder_file(folder: Path) -> IO[str]:
    """The lock file, open. It is made for all who may write the folder, whatever this user's umask, and opened without
    O_CREAT where it exists: in a folder like /tmp the kernel refuses that for another user's file."""
    path = folder / _HOLDER
    with suppress(FileNotFoundError):
        return path.open("r+", encoding="utf-8")
    file = path.open("a+", encoding="utf-8")
    with suppress(PermissionError):  # another user made it meanwhile
        path.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)
    return file


def _queue(folder: Path) -> list[tuple[Path, Waiting]]:
    alive = []
    for path in sorted((folder / _WAITING).glob("[0-9]-*")):
        with suppress(OSError, ValueError):  # it went meanwhile, or is none of ours
            priority, since, pid = map(int, path.name.split("-"))
            if is_held(path):
                name = path.read_text(encoding="utf-8", errors="replace")[:200]
                alive.append((path, Waiting(name, priority, pid, since / 1e9)))
            else:
                path.unlink(missing_ok=True)
    return alive


def _record(folder: Path) -> Held | None:
    """The record in the lock file; None for none and for a damaged one."""
    try:
        document: Any = json.loads((folder / _HOLDER).read_text(encoding="utf-8"))
        name, work = str(document["name"])[:200], str(document["work"])
        return Held(name, int(document["priority"]), work, int(document["pid"]), float(document["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stage_lives(work: str) -> bool:
    """Whether the stage process of this work folder runs."""
    if not work or not Path(work).is_dir():
        return False
    folder = Path(work)
    return local.alive(Job(folder.name, (str(folder / "stage.json"),), folder))
