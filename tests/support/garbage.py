"""What happens to files that others may touch: each kind replaces a good JSON file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
HUGE = 300 << 20  # bytes, sparse: above what json_files reads


@contextmanager
def unprivileged() -> Iterator[None]:
    """The block as a user whom file permissions bind; root is bound by none."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@dataclass(frozen=True)
class Garbage:
    """`put` replaces the file at a path; `around` is the world in which it is then read."""

    name: str
    put: Callable[[Path], object]
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.json")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(path: Path) -> None:
    _replace(path, b"{")
    os.truncate(path, HUGE)


def _forbidden(path: Path) -> None:
    """Readable by nobody, in folders that may be walked, so that its own mode is what refuses."""
    path.chmod(0)
    walkable(path)


def walkable(path: Path) -> None:
    """Let others through the folders above `path`; pytest's are its user's own."""
    for folder in list(path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)


def _each_value(path: Path, value: object) -> None:
    """Objects and lines of objects keep their keys; every value becomes one of another type."""
    lines = path.read_text().splitlines()
    try:
        documents = [json.loads(path.read_text())]
    except ValueError:
        documents = [json.loads(line) for line in lines]
    wrong = [dict.fromkeys(d, value) if isinstance(d, dict) else value for d in documents]
    _replace(path, "\n".join(json.dumps(d) for d in wrong).encode())


GARBAGE = [
    Garbage("empty", lambda p: _replace(p, b"")),
    Garbage("binary", lambda p: _replace(p, bytes(range(256)))),
    Garbage("truncated", lambda p: _replace(p, p.read_bytes().rstrip()[:-2])),
    Garbage("list", lambda p: _replace(p, b"[1, 2]\n")),
    Garbage("null", lambda p: _replace(p, b"null\n")),
    Garbage("keys missing", lambda p: _replace(p, b"{}\n")),
    Garbage("wrong types", lambda p: _each_value(p, [[None]])),
    Garbage("deep", lambda p: _replace(p, b"[" * 200_000)),
    Garbage("directory", _directory),
    Garbage("symlink to nothing", _dangling),
    Garbage("pipe", _fifo),
    Garbage("huge", _huge),
    Garbage("no permission", _forbidden, unprivileged),
]


def remove(path: Path) -> None:
    """Whatever is at the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
