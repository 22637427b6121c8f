"""Promotion and rollback with the real engine: a pico model, llama.cpp's converter and llama-server."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.proxy import ProxyConfig
from slipway.config.store import StoreConfig
from slipway.deployment.promotion import promote, rollback
from slipway.deployment.releases import Release
from slipway.deployment.state import champion, status, stop
from slipway.engines.chat_client import ChatClient
from slipway.errors import EngineError
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.store.artifacts import Checkpoint, Dataset, Engine, Evaluation, Verdict
from slipway.store.store import Store, load
from slipway.system.ports import any_port
from slipway.system.progress import Progress
from tests.support.pico import pico_model
from tests.support.record import put

TURNS = [{"role": "user", "content": "turn on the light"}, {"role": "assistant", "content": "{}"}]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def engines(store: Store) -> list[Engine]:
    """Two engines of different weights. The first run on a machine builds llama-server into the shared cache."""
    return [make_engine(store, seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def data(store: Store) -> Dataset:
    rows = "".join(json.dumps({"id": f"t{i}", "messages": TURNS, "label": "l"}) + "\n" for i in range(4))
    return put(store, Dataset, "prepare", "d", {"test.jsonl": rows})


@pytest.fixture
def params(tmp_path: Path) -> Iterator[DeployConfig]:
    first = any_port()
    params = DeployConfig(
        root=str(tmp_path / "target"), ports=(first, first + 9), start_timeout_s=60, proxy=ProxyConfig(kind="none")
    )
    yield params
    stop(params)


def make_engine(store: Store, seed: int) -> Engine:
    with store.create(Checkpoint, f"m{seed}", {"stage": "fetch", "inputs": {}}) as out:
        pico_model(out, seed=seed)
    checkpoint = load(Checkpoint, store.dir("checkpoint", f"m{seed}"))
    work = store.root / f"work{seed}"
    work.mkdir()
    with store.create(Engine, f"e{seed}", {"stage": "engine", "inputs": {}}) as out:
        space = Workspace(out, work, Path(StoreConfig().cache).expanduser(), Progress())
        engine(checkpoint, EngineParams(context=256, slots=2, threads=1), space)
    return load(Engine, store.dir("engine", f"e{seed}"))


def ship(store: Store, candidate: Engine, data: Dataset, params: DeployConfig) -> Release:
    evaluation = put(store, Evaluation, "evaluate", candidate.key, {"items.jsonl": candidate.digest}, engine=candidate)
    verdict = put(
        store, Verdict, "gate", candidate.key, {"verdict.json": {"outcome": "pass", "rules": []}}, candidate=evaluation
    )
    return promote(candidate, verdict, data, {"card.md": "# Card\n"}, params, model="pico")


def ask(params: DeployConfig) -> str:
    """What a client gets that follows the pointer."""
    endpoint = json.loads((Path(params.root) / "current" / "endpoint.json").read_text())
    with ChatClient(endpoint["url"], endpoint["model"], 30) as client:
        return client.ask(TURNS[:1], 16).text


def test_a_promotion_and_its_rollback_with_the_real_engine(
    store: Store, engines: list[Engine], data: Dataset, params: DeployConfig
) -> None:
    first = ship(store, engines[0], data, params)
    before = ask(params)
    assert len(first.smoke) == 3
    second = ship(store, engines[1], data, params)
    after = ask(params)
    assert after != before  # other weights answer
    assert (status(params).previous, status(params).healthy) == (first.name, True)
    assert rollback(params).name == first.name
    assert ask(params) == before
    served = [p for p in psutil.process_iter(["cmdline"]) if any(params.root in a for a in p.info["cmdline"] or [])]
    assert [second.name in " ".join(p.info["cmdline"]) for p in served] == [False]


def test_a_released_engine_is_an_artifact_of_its_own(
    store: Store, engines: list[Engine], data: Dataset, params: DeployConfig
) -> None:
    """The champion can be evaluated again from its release, after the store is gone."""
    release = ship(store, engines[0], data, params)
    released = release.engine(store.root)
    assert released.digest == engines[0].digest
    assert Path(released.uri).is_relative_to(Path(params.root).resolve())


def test_an_engine_that_cannot_load_its_model_leaves_the_champion(
    store: Store, engines: list[Engine], data: Dataset, params: DeployConfig
) -> None:
    """A whole artifact of half a model, as an engine build that was killed while it wrote."""
    first = ship(store, engines[0], data, params)
    before = ask(params)
    with store.create(Engine, "half", {"stage": "engine", "inputs": {}}) as out:
        for file in ("serve.json", "llama-server"):
            os.link(engines[1].path / file, out / file)
        whole = (engines[1].path / "model.gguf").read_bytes()
        (out / "model.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineError, match="died"):
        ship(store, load(Engine, store.dir("engine", "half")), data, params)
    now = champion(params)
    assert now is not None
    assert now.name == first.name
    assert ask(params) == before


def test_a_killed_engine_is_started_again_by_the_same_promotion(
    store: Store, engines: list[Engine], data: Dataset, params: DeployConfig
) -> None:
    first = ship(store, engines[0], data, params)
    before = ask(params)
    pid = json.loads((Path(first.path) / "endpoint.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=120)
    assert not status(params).healthy
    assert ship(store, engines[0], data, params).reused
    assert ask(params) == before
