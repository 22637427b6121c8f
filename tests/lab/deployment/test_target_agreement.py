"""Kernel agreement at the target with the real llama-server: a sound candidate passes and its figures are explained;
one whose weights were damaged on their way to the engine is healthy, answers, and is undone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kernel_agreement import letters_model, plant
from slipway.config.deploy import DeployConfig
from slipway.config.engine import AgreementConfig
from slipway.config.store import StoreConfig
from slipway.deployment.canary.check_words import check_pairs
from slipway.deployment.promotion import promote
from slipway.deployment.releases import Release
from slipway.deployment.state import status, stop
from slipway.engines.llamacpp.build import ensure_build
from slipway.errors import EngineError
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.store.artifacts import Checkpoint, Engine
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.system.progress import Progress
from tests.support.target import make_data, make_verdict, target_params

SEED = 600  # of the model and of its fault


@pytest.fixture
def params(tmp_path: Path) -> Iterator[DeployConfig]:
    params = target_params(str(tmp_path / "target")).model_copy(update={"start_timeout_s": 120})
    yield params
    stop(params)


def healthy(store: Store) -> Engine:
    """A pico engine as the stage makes it, its own check of agreement left out."""
    with store.create(Checkpoint, "m", {"stage": "fetch", "inputs": {}}) as out:
        letters_model(out, SEED)
    checkpoint = load(Checkpoint, store.dir("checkpoint", "m"))
    work = store.root / "work"
    work.mkdir()
    inputs = {"checkpoint": reference_to(checkpoint, store.root)}
    with store.create(Engine, "sound", {"stage": "engine", "inputs": inputs}) as out:
        space = Workspace(out, work, Path(StoreConfig().cache).expanduser(), Progress())
        unchecked = AgreementConfig(check="off")
        engine(checkpoint, EngineParams(context=1024, slots=2, threads=1, agreement=unchecked), space)
    return load(Engine, store.dir("engine", "sound"))


def damaged(store: Store, sound: Engine) -> Engine:
    """The same engine, of the same weights by its record, with one matrix scaled by two on the way into its file."""
    build = ensure_build(EngineParams(), Path(StoreConfig().cache).expanduser(), Progress())
    provenance = {"stage": "engine", "inputs": sound.manifest["provenance"]["inputs"]}
    with store.create(Engine, "damaged", provenance) as out:
        os.link(sound.path / "llama-server", out / "llama-server")
        for name in ("serve.json", "model.gguf"):
            shutil.copyfile(sound.path / name, out / name)
        plant("scale", SEED, out / "model.gguf", build.root / "gguf-py")
    return load(Engine, store.dir("engine", "damaged"))


def ship(store: Store, candidate: Engine, params: DeployConfig, notes: list[str]) -> Release:
    verdict = make_verdict(store, candidate)
    return promote(candidate, verdict, make_data(store), {}, params, model="pico", note=notes.append)


def test_a_candidate_that_is_healthy_and_disagrees_with_its_weights_is_undone(
    tmp_path: Path, params: DeployConfig
) -> None:
    store, notes = Store(tmp_path / "store"), list[str]()
    sound = healthy(store)
    champion = ship(store, sound, params, notes)
    verdict = champion.checks["probe"]["agreement"]
    assert verdict["outcome"] == "pass" and verdict["answers"] == 4 and verdict["tokens"] == 3 * 128 + 384
    assert any(note.startswith("kernel agreement: pass") for note in notes)
    assert "pass, off by" in dict(check_pairs(champion.checks))["kernel agreement at the target"]
    notes.clear()
    with pytest.raises(EngineError, match="kernel agreement: ratio"):
        ship(store, damaged(store, sound), params, notes)
    assert any("smoke requests answered" in note for note in notes)  # healthy, and it answers
    now = status(params)
    assert now.healthy and now.release is not None and now.releases == [champion.name]
