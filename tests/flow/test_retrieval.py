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

from slipway.deployment.promotion import rollback
from slipway.deployment.state import status
from slipway.errors import StateError
from slipway.ops.chain.plan import as_run, plan
from slipway.ops.chain.retrieval_calls import of_arm
from slipway.ops.retrieval import compare, maker
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
        "gate.non_inferiority": "[{against: champion, metric: rag_recall, margin: 0.1}, "
        "{against: champion, metric: rag_hit_5, margin: 0.2}]",
    }


@pytest.fixture(scope="module")
def first(world: World, rag: dict[str, Any]) -> Outcome:
    return world.go(**rag)


@pytest.fixture(scope="module")
def other(rag: dict[str, Any]) -> dict[str, Any]:
    """The same with chunks of another length: another index, a third worse on documents of this length, and allowed to
    be."""
    return {
        **rag,
        "rag.arm": "other/hybrid",
        "rag.strategies": "{other: {kind: fixed, tokens: 26, overlap: 4}}",
        "gate.non_inferiority": rag["gate.non_inferiority"].replace("margin: 0.1", "margin: 0.6").replace("0.2", "0.6"),
    }


def paired(outcome: Outcome) -> dict[str, Any]:
    """The gate's rules against the champion, by metric."""
    return {rule["metric"]: rule for rule in outcome.summary["gate"]["rules"] if rule["against"] == "champion"}


def index_of(world: World, strategy: str = "small") -> Path:
    """The directory of the index of a strategy."""
    (path,) = (
        path.parent
        for path in (world.folder / "store/index").glob("*/index.json")
        if "." not in path.parent.name and json.loads(path.read_text())["name"] == strategy
    )
    return path


def served_index(world: World) -> str:
    """The digest of the index beside the engine that the pointer names."""
    return str(read_manifest(world.folder / "target/current/index")["digest"])


@contextmanager
def spoiled(world: World, strategy: str = "small") -> Iterator[Path]:
    """The directory of an index, to be spoiled; as it was afterwards."""
    path = index_of(world, strategy)
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
    assert read_manifest(index_of(world))["digest"] == index == served_index(world)
    assert any("rag_hit_5 against champion: there is none yet" in one for one in first.summary["gate"]["skipped"])
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


def test_another_index_is_compared_promoted_beside_the_same_engine_and_rolled_back(
    world: World, other: dict[str, Any], first: Outcome
) -> None:
    before = served_index(world)
    second = world.go(**other)
    assert second.state.is_completed(), second.state.message
    assert {"search-eval other", "search-eval champion"} <= set(second.tasks)
    rules = paired(second)
    assert {rule["outcome"] for rule in rules.values()} == {"pass"}
    assert {rule["items"] for rule in rules.values()} == {32}
    assert served_index(world) == read_manifest(index_of(world, "other"))["digest"] != before
    now = status(world.config().deploy).release
    assert now is not None and now.retrieval is not None and now.checks["index"]["probes"] == 32
    engines = {record.digests["engine"] for record in status(world.config().deploy).records}
    assert engines == {now.digests["engine"]}, "one engine, two releases"
    planned = plan(as_run(world.config(**other))[0], ROOT)
    assert planned.nothing_to_do, [stage.title for stage in planned.stages if stage.state != "reused"]
    assert world.go(**other).state.name == "Cached"
    rolled = rollback(world.config().deploy)
    assert served_index(world) == before
    assert not plan(as_run(world.config(**other))[0], ROOT).nothing_to_do
    assert rolled.retrieval is not None and rolled.retrieval.index == before


def test_a_spoiled_index_is_stopped_by_the_paired_rules_alone(
    world: World, rag: dict[str, Any], other: dict[str, Any], first: Outcome
) -> None:
    """Its probes know it, no floor is set: it gives other text than it found, and the champion's index does not."""
    keys = {
        **other,
        "rag.arm": "spoiled/hybrid",
        "rag.strategies": "{spoiled: {kind: fixed, tokens: 20, overlap: 2}}",
        "gate.non_inferiority": rag["gate.non_inferiority"],
        "gate.floors": "{json_exact: 0.0}",
    }
    compare(of_arm(world.config(**keys)), maker(world.config(**keys), ROOT, lambda *_: None))
    before = status(world.config().deploy)
    with spoiled(world, "spoiled") as path:
        lines = (path / "chunks.jsonl").read_text().splitlines(keepends=True)
        (path / "chunks.jsonl").write_text("".join(lines[11:] + lines[:11]))
        sealed_again(path)
        refused = world.go(**keys)
    rules = paired(refused)
    assert {name: rule["outcome"] for name, rule in rules.items()} == {"rag_recall": "fail", "rag_hit_5": "fail"}
    assert refused.summary["gate"]["outcome"] == "fail"
    after = status(world.config().deploy)
    assert (after.release, after.releases) == (before.release, before.releases)
