"""Work done in a forked process that kills itself at its n-th step on disk, as `kill -9` or a power cut would."""

import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from slipway.weights.journal import Journal

_STEPS = (
    (os, "truncate"),
    (os, "pwrite"),
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
    (os, "unlink"),
    (Path, "write_text"),
    (shutil, "copyfile"),
)


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run `action` in another process that is killed at its n-th step, a write half done; False if it took fewer and
    finished."""
    status = _forked(action, lambda: _killing(step))
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def in_another_process(action: Callable[[], object]) -> None:
    """Run `action` in a forked process and assert that it ended without an error."""
    assert _forked(action, nullcontext) == 0


def _forked(action: Callable[[], object], around: Callable[[], AbstractContextManager[None]]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)  # threads of a pool do not come along into a fork
            with around():
                action()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


@contextmanager
def _killing(step: int) -> Iterator[None]:
    remaining_steps = [step]

    def count_step() -> bool:
        """Whether the step that begins now is the one to be killed at."""
        remaining_steps[0] -= 1
        return remaining_steps[0] == 0

    def kill_self() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def patched(*args: Any, **kwargs: Any) -> Any:
            if count_step():
                if function.__name__ == "pwrite":
                    function(args[0], args[1][: len(args[1]) // 2], args[2])
                kill_self()
            return function(*args, **kwargs)

        return patched

    write = Journal._write

    def write_half(journal: Journal, line: Any) -> None:
        if count_step():
            journal._file.write('{"tensor": "mod')
            journal._file.flush()
            kill_self()
        write(journal, line)

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in _STEPS:
            patch.setattr(owner, name, before(getattr(owner, name)))
        patch.setattr(Journal, "_write", write_half)
        yield
