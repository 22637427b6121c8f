"""Stages of retrieval that `kill -9` ends at every few steps on disk: run again, they end with the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import StageKilledError
from slipway.ops.chain import retrieval_calls as calls
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.store.store import Store, verify
from tests.support.rag_stages import Chain, chain

# The stage's own command, in a process that kills itself at its n-th step on disk with what it writes half written
PROGRAM = """
import os, runpy, signal, sys
from pathlib import Path

remaining = int(sys.argv.pop(1))

def counted(function, halves=False):
    def call(*args, **more):
        global remaining
        remaining -= 1
        if remaining == 0:
            if halves:
                function(args[0], args[1][: len(args[1]) // 2], *args[2:], **more)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **more)
    return call

for name in ("replace", "rename", "fsync"):
    setattr(os, name, counted(getattr(os, name)))
for name in ("write_bytes", "write_text"):
    setattr(Path, name, counted(getattr(Path, name), halves=True))
import numpy
numpy.save = counted(numpy.save)
sys.argv[0] = "slipway"
runpy.run_module("slipway", run_name="__main__", alter_sys=True)
"""


class KillingRunner(LocalRunner):
    """Runs a stage in a process that is killed at its n-th step on disk."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def submit(self, job: Job) -> bool:
        python, isolated, _, _, *words = job.argv
        return super().submit(replace(job, argv=(python, isolated, "-c", PROGRAM, str(self._step), *words)))


def made(call: StageCall, folder: Path, notes: list[str], step: int = 0) -> Any:
    """What a call makes in the store of `folder`; killed at `step`, where given. `notes` gets what the stage says."""
    runner = KillingRunner(step) if step else LocalRunner()

    def listen(event: dict[str, Any]) -> None:
        notes.append(str(event.get("text", "")))

    return ensure(call, Store(folder / "store"), folder / "cache", runner, listen).artifact


def calls_of(one: Chain, folder: Path) -> Iterator[StageCall]:
    """embed and index of a corpus in the store of `folder`, each when those before it are made."""
    corpus = made(calls.corpus(one.config, one.folder), folder, [])
    chunks = made(calls.chunk(one.config, "fixed", corpus), folder, [])
    embedding = calls.embed(one.config, "fixed", corpus, chunks)
    yield embedding
    yield calls.index(one.config, "fixed", corpus, chunks, made(embedding, folder, []))


def files(artifact: Any) -> dict[str, bytes]:
    """The bytes of an artifact, by name; its manifest names the hour."""
    paths = [path for path in sorted(artifact.path.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(artifact.path).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.timeout(1200)
def test_embed_and_index_go_on_after_a_kill_to_the_same_bytes(tmp_path: Path) -> None:
    one = chain(tmp_path / "one", documents=12)
    whole = [made(call, tmp_path / "whole", []) for call in calls_of(one, tmp_path / "whole")]
    for expected, call in zip(whole, calls_of(one, tmp_path / "killed"), strict=True):
        kills, step, again, notes = 0, 1, None, list[str]()
        while again is None:
            try:
                again = made(call, tmp_path / "killed", notes, step)
            except StageKilledError:
                kills, step = kills + 1, step + 2
        assert kills >= 4, f"{call.stage} took {step} steps on disk"
        assert verify(again.path) is None
        assert (again.digest, files(again)) == (expected.digest, files(expected))
        if call.stage == "embed":
            counts = [text.split() for text in notes if "vectors made" in text]
            assert counts and all(int(words[0]) < int(words[2]) for words in counts), "shards of killed attempts serve"
        assert not [path for path in (tmp_path / "killed/store/work").glob("*") if path.is_dir()]
