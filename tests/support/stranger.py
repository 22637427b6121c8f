"""Do something as another user of this machine, who owns nothing. Needs root; forks, so that any Python may be used."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

NOBODY = 65534


def as_nobody(action: Callable[[], Any]) -> Any:
    """What `action` returns in a process of user nobody without any group; an OSError comes back as its text."""

    def report(tell: Callable[[Any], None]) -> None:
        try:
            tell(action())
        except OSError as err:
            tell(f"{type(err).__name__}: {err}")

    with nobody_runs(report) as answer:
        return answer


@contextlib.contextmanager
def nobody_runs(action: Callable[[Callable[[Any], None]], None]) -> Iterator[Any]:
    """Run `action(tell)` as nobody until the block ends; the block gets what it told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            action(lambda value: _tell(writer, value))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            yield pickle.loads(pipe.read())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _tell(writer: int, value: Any) -> None:
    os.write(writer, pickle.dumps(value))
    os.close(writer)
