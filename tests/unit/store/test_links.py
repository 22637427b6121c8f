"""Artifacts that link to a user's files: found again when both have moved."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.store.artifacts import Checkpoint
from slipway.store.links import mend_links, place_of
from slipway.store.store import Store


def test_a_place_is_relative_in_the_folder_that_holds_the_store_and_absolute_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "clone/.slipway"
    assert place_of(tmp_path / "clone/models/pico", root) == "models/pico"
    assert place_of(tmp_path / "models/pico", root) == str(tmp_path / "models/pico")
    assert place_of(Path("/models/pico"), Path("/store")) == "/models/pico"


def linked(clone: Path) -> Store:
    store, model = Store(clone / ".slipway"), clone / "models/pico"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_text("weights")
    with store.create(Checkpoint, "k", {"extra": {"place": place_of(model, store.root)}}) as out:
        (out / "model.safetensors").symlink_to(model / "model.safetensors")
    return store


def test_links_lead_to_the_files_again_when_the_clone_has_moved(tmp_path: Path) -> None:
    digest = linked(tmp_path / "clone").find(Checkpoint, "k").digest  # type: ignore[union-attr]
    (tmp_path / "clone").rename(tmp_path / "renamed")
    moved = Store(tmp_path / "renamed/.slipway").find(Checkpoint, "k")
    assert moved
    assert moved.digest == digest
    assert (moved.path / "model.safetensors").readlink() == tmp_path / "renamed/models/pico/model.safetensors"


def test_other_bytes_in_the_place_are_damage_as_ever(tmp_path: Path) -> None:
    linked(tmp_path / "clone")
    (tmp_path / "clone").rename(tmp_path / "renamed")
    (tmp_path / "renamed/models/pico/model.safetensors").write_text("wEights")
    with pytest.warns(UserWarning, match="another sha256"):
        assert Store(tmp_path / "renamed/.slipway").find(Checkpoint, "k") is None


def test_links_without_a_place_or_with_garbage_for_a_manifest_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nowhere/at/all")
    mend_links(tmp_path, tmp_path)
    for text in ("{", "[]", '{"provenance": []}', '{"provenance": {"extra": {"place": 3}}}'):
        (tmp_path / "manifest.json").write_text(text)
        mend_links(tmp_path, tmp_path)
    assert str((tmp_path / "link").readlink()) == "/nowhere/at/all"


def test_many_mend_one_artifact_at_once(tmp_path: Path) -> None:
    """Commands that look at one store that has moved, at the same moment."""
    model, path, at_once = tmp_path / "models", tmp_path / "store/checkpoint/k", 8
    model.mkdir()
    path.mkdir(parents=True)
    (path / "manifest.json").write_text('{"provenance": {"extra": {"place": "models"}}}')
    for n in range(40):
        (model / f"{n}.safetensors").touch()
        (path / f"{n}.safetensors").symlink_to(f"/moved/{n}.safetensors")
    together = threading.Barrier(at_once)

    def mend(_: int) -> None:
        together.wait()
        mend_links(path, tmp_path / "store")

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(mend, range(at_once)))
    assert sorted(file.name for file in path.iterdir() if file.is_file()) == sorted(
        ["manifest.json", *(f"{n}.safetensors" for n in range(40))]
    )
