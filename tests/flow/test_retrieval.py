"""Retrieval in a whole run: its stages, the gate on its metrics, and indexes that were spoiled on purpose."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import pytest

from slipway.deployment.state import status
from slipway.errors import StateError
from slipway.ops.chain.plan import as_run, plan
from slipway.store.artifacts import SearchIndex
from slipway.store.manifest import read_manifest
from slipway.store.store import seal
from tests.support import faq
from tests.support.flow_world import MARKS, Outcome, World
from tests.support.pico_embedder import pico_embedder
from tests.support.world import ROOT

pytestmark = MARKS
STAGES = ["corpus", "chunk small", "embed small", "index small", "search_eval small"]


@pytest.fixture(scope="module")
def rag(world: World) -> dict[str, Any]:
    """Keys of a run with retrieval over a small corpus, whose paragraphs have a word of their own each."""
    faq.write_corpus(world.folder / "docs", 8)
    pico_embedder(world.folder / "embedder")
    return {
        "rag.corpus": world.folder / "docs",
        "rag.arm": "small/hybrid",
        "rag.strategies": "{small: {kind: fixed, tokens: 24, overlap: 4}}",
        "rag.embedder": f"{{source: directory, directory: {world.folder / 'embedder'}}}",
        "rag.context_tokens": 128,
        "gate.floors": "{json_exact: 0.0, rag_recall: 0.5}",
    }


@pytest.fixture(scope="module")
def first(world: World, rag: dict[str, Any]) -> Outcome:
    return world.go(**rag)


def index_of(world: World) -> Path:
    """The directory of the run's index."""
    (path,) = (
        path.parent for path in (world.folder / "store/index").glob("*/index.json") if "." not in path.parent.name
    )
    return path


@contextmanager
def spoiled(world: World) -> Iterator[Path]:
    """The directory of the run's index, to be spoiled; as it was afterwards."""
    path = index_of(world)
    aside = shutil.copytree(path, world.folder / "aside")
    try:
        yield path
    finally:
        shutil.rmtree(path)
        aside.rename(path)


def sealed_again(path: Path) -> None:
    """A manifest that fits the files as they are now."""
    manifest = read_manifest(path)
    (path / "manifest.json").unlink()
    seal(path, SearchIndex.kind, manifest["key"], manifest["provenance"])


def test_a_run_makes_measures_and_gates_an_index_before_it_trains(
    world: World, rag: dict[str, Any], first: Outcome
) -> None:
    assert first.state.is_completed(), first.state.message
    stages = list(first.reused())
    assert stages[2:8] == [*STAGES, "train"]
    assert {"corpus", "chunk small", "embed small", "index small", "search-eval small"} <= set(first.tasks)
    rule = next(rule for rule in first.summary["gate"]["rules"] if rule["metric"] == "rag_recall")
    assert rule["outcome"] == "pass" and rule["key"] == "gate.floors.rag_recall"
    assert 0.5 < rule["value"] <= 1 and rule["items"] == 32, "the questions that chose nothing"
    children = world.children(first.mlflow)
    assert set(STAGES) <= set(children)
    assert children["search_eval small"].data.metrics["hybrid recall"] > 0.5
    assert first.mlflow.data.metrics["beside.rag_recall"] == pytest.approx(rule["value"])
    release = next((world.folder / "target/releases").glob("*/release.json"))
    index = json.loads(release.read_text())["digests"]["index"]
    assert read_manifest(index_of(world))["digest"] == index
    planned = plan(as_run(world.config(**rag))[0], ROOT)
    assert {stage.state for stage in planned.stages} == {"reused"}
    assert [stage.title for stage in planned.stages][2:8] == [*STAGES, "train"]


def test_an_index_whose_probes_find_other_chunks_ends_the_run(
    world: World, rag: dict[str, Any], first: Outcome
) -> None:
    before = status(world.config().deploy)
    with spoiled(world) as path:
        flat = faiss.read_index(str(path / "vectors.faiss"))
        rows = list(range(flat.ntotal))
        random.Random(0).shuffle(rows)
        other = faiss.IndexFlatIP(flat.d)
        other.add(flat.reconstruct_batch(rows))
        faiss.write_index(other, str(path / "vectors.faiss"))
        sealed_again(path)
        refused = world.go(**rag)
    with pytest.raises(StateError, match=r"probe\(s\) find other chunks"):
        refused.state.result()
    assert refused.tasks["search-eval small"].name == "Failed"
    assert "gate" not in refused.tasks
    assert status(world.config().deploy) == before
