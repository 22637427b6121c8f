"""Which index goes with a release, and its probes before a switch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.deployment.release_index import judged_index, replayed, replayed_on_return
from slipway.deployment.releases import Carried, Release
from slipway.errors import StateError
from slipway.store.store import Store
from tests.support.searched import chosen, searchable, searched, searched_verdict, spoil_probes
from tests.support.target import make_engine, make_verdict

RELEASE = {
    "name": "0001-aaaaaaaa", "path": "/t/releases/0001-aaaaaaaa", "model": "m", "created": "2026-01-01T00:00:00Z",
    "digests": {"engine": "a" * 64}, "outcome": "pass",
}  # fmt: skip


def test_the_index_is_the_one_that_the_verdict_judged(store: Store) -> None:
    engine, index = make_engine(store, {"answer": "x"}), searchable(store)
    assert judged_index(make_verdict(store, engine)) is None
    judged = judged_index(searched_verdict(store, engine, index))
    assert judged is not None
    assert judged.index.digest == index.digest
    assert judged.carried == Carried(index=index.digest, retriever="bm25", depth=100)


def test_a_choice_says_which_retriever_searches(store: Store) -> None:
    search = searched(store, searchable(store), retrievers=["bm25", "dense", "hybrid"])
    verdict = make_verdict(store, make_engine(store, {"answer": "x"}), search=search, choice=chosen(store, "w/hybrid"))
    judged = judged_index(verdict)
    assert judged is not None and judged.carried.retriever == "hybrid"


def test_an_index_that_is_gone_or_made_again_is_refused(store: Store) -> None:
    index = searchable(store)
    verdict = searched_verdict(store, make_engine(store, {"answer": "x"}), index)
    spoil_probes(index.path)
    with pytest.raises(StateError, match=rf"index of retrieval .* made again as .*; expected {index.digest[:12]}"):
        judged_index(verdict)
    shutil.rmtree(index.path)
    with pytest.raises(StateError):
        judged_index(verdict)


def test_an_evaluation_that_does_not_say_how_it_searched_is_refused(store: Store) -> None:
    search = searched(store, searchable(store), depth=None)
    with pytest.raises(StateError, match="expected retriever and depth"):
        judged_index(make_verdict(store, make_engine(store, {"answer": "x"}), search=search))


def test_probes_that_find_what_they_found_are_reported(store: Store) -> None:
    index = searchable(store)
    report = replayed(index.path, index.digest, "verdict v")
    assert report == {"digest": index.digest, "probes": 32, "retrievers": ["bm25"]}


def test_a_probe_that_finds_another_chunk_a_byte_and_another_index_are_named(store: Store) -> None:
    index = searchable(store)
    thing = rf"index {index.digest[:12]} of verdict v"
    with pytest.raises(StateError, match=rf"index {'0' * 12} of verdict v: digest {index.digest[:12]}"):
        replayed(index.path, "0" * 64, "verdict v")
    text = (index.path / "chunks.jsonl").read_text()
    (index.path / "chunks.jsonl").write_text(text.replace("d0", "d1", 1))
    with pytest.raises(StateError, match=rf"{thing}: chunks\.jsonl has another sha256"):
        replayed(index.path, index.digest, "verdict v")
    (index.path / "chunks.jsonl").write_text(text)
    spoil_probes(index.path)
    spoiled = searchable(store)
    with pytest.raises(StateError, match=r"(?s)1 probe\(s\) find other chunks.*nothing was switched") as refused:
        replayed(spoiled.path, spoiled.digest, "verdict v")
    assert refused.value.exit_code == 2


def test_what_comes_back_is_searched_where_its_files_are(store: Store, tmp_path: Path) -> None:
    index = searchable(store)
    folder = tmp_path / "releases/0001-aaaaaaaa"
    shutil.copytree(index.path, folder / "index")
    carried = {"index": index.digest, "retriever": "bm25", "depth": 100}
    release = Release.model_validate({**RELEASE, "path": str(folder), "retrieval": carried})
    assert replayed_on_return(release)["probes"] == 32
    there = release.model_copy(update={"path": "/on/another/machine"})
    assert "reads every byte" in replayed_on_return(there)["refused"]
    assert replayed_on_return(Release.model_validate(RELEASE)) == {}
