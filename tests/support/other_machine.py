"""Another machine, out of folders of this one: for `ssh` stands a program that runs its command here. The real link is
`tests/lab/runners/test_remote.py`'s."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.config.merge import MergeConfig
from slipway.pipeline.ensure import Made
from slipway.pipeline.ensure_there import ensure_at
from slipway.pipeline.remote_machine import RemoteMachine
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import Store, load
from tests.support.pico import pico_adapter, pico_model

SSH = """#!/bin/sh
# no host: the command runs here; a login shell that greets, on the way of everything but rsync
while [ $# -gt 0 ]; do case $1 in -o | -p | -l) shift 2 ;; --) shift ;; -*) shift ;; *) break ;; esac; done
shift
case $1 in -- ) shift ;; esac
case $* in *"rsync --server"*) ;; *) echo "Welcome, {not JSON}" ;; esac
echo "$*" >> SSH_CALLS
exec sh -c "$*"
"""


class OtherMachine:
    """The other machine, a store here, and a merge of pico."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self.calls = folder / "other" / "slipway", folder / "ssh-calls"
        self.store, self.python = Store(folder / "store"), python
        self.machine = RemoteMachine("ssh://me@other", str(self.folder), python, keep_mb=0.03)
        self.base = self._put(Checkpoint, "b", lambda out: pico_model(out / "m", shards=2))
        self.adapter = self._put(Adapter, "a", lambda out: pico_adapter(out / "m"))
        self.events: list[dict[str, Any]] = []

    def _put(self, cls: type[Any], key: str, write: Callable[[Path], Path]) -> Any:
        with self.store.create(cls, key, {}) as out:
            made = write(out)
            for file in list(made.iterdir()):
                file.rename(out / file.name)
            made.rmdir()
        return load(cls, self.store.dir(cls.kind, key))

    def merge(self, machine: RemoteMachine | None, runner: LocalRunner | None = None) -> Made:
        params = MergeConfig(max_logit_error=10, proof_layers=1, proof_tokens=8, materialize=True)
        call = StageCall("merge", {"base": self.base, "adapter": self.adapter}, params)
        return ensure_at(machine, call, self.store, self.folder / "cache", runner or LocalRunner(), self.events.append)

    def pushes(self) -> int:
        """Copies to the other side, of artifacts."""
        return sum("--server" in line and "/incoming/" in line for line in self.calls.read_text().splitlines())


def other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OtherMachine:
    """One in `tmp_path`, and its `ssh` first on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.replace("SSH_CALLS", str(tmp_path / "ssh-calls")))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return OtherMachine(tmp_path)
