"""References: relative in the store, found again after a move, never another artifact at the same place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.errors import StateError
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.lineage import lineage
from slipway.store.references import reference_to, resolve
from slipway.store.store import Store, load
from tests.support.record import record


def artifact(root: Path, key: str = "k", text: str = "x") -> Checkpoint:
    store = Store(root)
    with store.create(Checkpoint, key, {}) as out:
        (out / "a.txt").write_text(text)
    return load(Checkpoint, store.dir("checkpoint", key))


def test_an_artifact_of_the_store_is_named_relative_to_its_root(tmp_path: Path) -> None:
    one = artifact(tmp_path / "store")
    assert reference_to(one, tmp_path / "store") == {"uri": "checkpoint/k", "kind": "checkpoint", "digest": one.digest}
    assert reference_to(one, tmp_path / "other")["uri"] == one.uri


def test_a_moved_store_is_looked_into_where_the_document_lies_now(tmp_path: Path) -> None:
    one = artifact(tmp_path / "store")
    reference = reference_to(one, tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "moved")
    here = tmp_path / "moved/checkpoint/k"
    assert resolve(reference, tmp_path / "moved/adapter/a") == here
    assert resolve(reference, tmp_path / "moved/work/merge-1") == here


def test_an_absolute_reference_of_before_is_found_by_kind_and_key(tmp_path: Path) -> None:
    one = artifact(tmp_path / "store")
    reference = {"uri": one.uri, "kind": "checkpoint", "digest": one.digest}
    assert resolve(reference, tmp_path / "store/adapter/a") == one.path
    (tmp_path / "store").rename(tmp_path / "moved")
    assert resolve(reference, tmp_path / "moved/adapter/a") == tmp_path / "moved/checkpoint/k"


def test_the_digest_decides_between_a_copy_left_behind_and_the_one_beside_the_document(tmp_path: Path) -> None:
    one = artifact(tmp_path / "store")
    reference = {"uri": one.uri, "kind": "checkpoint", "digest": one.digest}
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    shutil.rmtree(one.path)
    other = artifact(tmp_path / "store", text="other bytes")
    assert other.path == one.path
    assert resolve(reference, tmp_path / "copy/adapter/a") == tmp_path / "copy/checkpoint/k"
    assert resolve(reference, tmp_path / "store/adapter/a") == one.path, (
        "what is there; its digest says that it is another"
    )


def test_what_is_gone_is_named_where_it_should_be(tmp_path: Path) -> None:
    reference = {"uri": "checkpoint/k", "kind": "checkpoint", "digest": "d"}
    assert resolve(reference, tmp_path / "store/adapter/a") == tmp_path / "store/checkpoint/k"


@pytest.mark.parametrize("reference", [{}, {"uri": "a"}, {"uri": 1, "kind": "a", "digest": "d"}])
def test_garbage_is_one_error(tmp_path: Path, reference: dict[str, str]) -> None:
    with pytest.raises(StateError, match="expected uri, kind and digest"):
        resolve(reference, tmp_path / "store/adapter/a")


def test_lineage_is_whole_after_a_move_and_from_a_copy_outside_of_the_store(tmp_path: Path) -> None:
    run = record(tmp_path / "clone")
    before = [(a.role, a.stage, a.digest) for a in lineage(run.verdict)]
    (tmp_path / "clone").rename(tmp_path / "renamed")
    moved = load(type(run.verdict), tmp_path / "renamed" / run.verdict.path.relative_to(tmp_path / "clone"))
    ancestors = lineage(moved)
    assert [(a.role, a.stage, a.digest) for a in ancestors] == before
    assert all(a.stage and Path(a.uri).is_relative_to(tmp_path / "renamed") for a in ancestors)
    adapter = next(a for a in ancestors if a.kind == Adapter.kind)
    assert load(Adapter, Path(adapter.uri)).digest == run.adapter.digest
