"""Stages on another machine: inputs by digest, outputs left there, small files here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from slipway.config.merge import MergeConfig
from slipway.errors import ResourceError
from slipway.pipeline.ensure_there import ensure_at, needed
from slipway.pipeline.stage import StageCall
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Checkpoint, Engine
from slipway.store.placed import placed, placed_files
from slipway.store.references import reference_to
from slipway.store.store import load, verify
from tests.support.other_machine import OtherMachine, other_machine


class NoRunner(LocalRunner):
    """Starts nothing: what happens before a stage process is looked at."""

    def submit(self, job: Job) -> bool:
        raise RuntimeError(f"a stage here: {job.name}")


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OtherMachine:
    return other_machine(tmp_path, monkeypatch)


def test_weights_stay_where_they_were_made_are_verified_there_and_brought_when_read_here(other: OtherMachine) -> None:
    made = other.merge(other.machine)
    assert (made.reused, other.pushes()) == (False, 2)  # base and adapter
    assert "ssh://me@other" in made.why
    folder, (name,) = made.artifact.path, placed_files(made.artifact.path)
    assert name.endswith(".safetensors")
    assert not list(folder.glob("*.safetensors"))
    assert (folder / "proof.json").is_file()
    assert any(event.get("event") == "note" for event in other.events)
    again = other.merge(other.machine)
    assert (again.reused, again.artifact, other.pushes()) == (True, made.artifact, 2)

    file = other.folder / "store/checkpoint" / made.artifact.key / name
    file.write_bytes(b"x" * file.stat().st_size)
    mended = other.merge(other.machine)
    assert (mended.reused, mended.artifact.digest) == (False, made.artifact.digest)
    assert verify(file.parent) is None

    assert verify(folder) == f"{name} lies on ssh://me@other only"
    other.base = mended.artifact
    with pytest.raises(RuntimeError, match="a stage here"):
        other.merge(None, NoRunner())  # it would read the weights
    assert placed(folder) is None
    assert verify(folder) is None
    assert any("bringing checkpoint" in str(event.get("text")) for event in other.events)


def test_a_virtual_checkpoint_takes_base_and_adapter_with_it(other: OtherMachine) -> None:
    with other.store.create(Checkpoint, "v", {}) as out:
        references = {"base": reference_to(other.base, other.store.root)}
        references |= {"adapter": reference_to(other.adapter, other.store.root)}
        (out / "virtual.json").write_text(json.dumps(references))
    virtual = load(Checkpoint, other.store.dir("checkpoint", "v"))
    assert needed(virtual) == [other.base, other.adapter, virtual]


def test_an_input_that_was_damaged_here_is_refused_there(other: OtherMachine) -> None:
    weights = other.adapter.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ResourceError, match=r"copy of adapter .*: adapter_model.safetensors has another sha256"):
        other.merge(other.machine)


def test_a_cancelled_stage_is_ended_there(other: OtherMachine) -> None:
    """Ctrl-C on the way: nothing of the stage is left running, and nothing half-made in either store."""

    def interrupt(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    call = StageCall("merge", {"base": other.base, "adapter": other.adapter}, MergeConfig(proof_tokens=8))
    with pytest.raises(KeyboardInterrupt):
        ensure_at(other.machine, call, other.store, other.folder / "cache", LocalRunner(), interrupt)
    deadline = time.monotonic() + 60
    while [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(other.folder).encode() in _read(p)]:
        assert time.monotonic() < deadline, "a process of the stage lives on"
        time.sleep(0.2)
    assert not list((other.store.root / "checkpoint").glob(".tmp-*"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("argv", "reads"), [(["{bundle}/server", "{bundle}/m.gguf"], False), (["vllm", "{model}"], True)]
)
def test_a_checkpoint_goes_with_an_engine_that_loads_it(other: OtherMachine, argv: list[str], reads: bool) -> None:
    provenance = {"stage": "engine", "inputs": {"checkpoint": reference_to(other.base, other.store.root)}}
    with other.store.create(Engine, "e", provenance) as out:
        (out / "serve.json").write_text(json.dumps({"argv": argv}))
    engine = load(Engine, other.store.dir("engine", "e"))
    assert needed(engine) == ([other.base, engine] if reads else [engine])
    for file in other.base.path.iterdir():
        file.unlink()
    assert needed(engine) == [engine]
