"""What lies in a store is known by who wrote it; what nobody here wrote is unknown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.store.usage import USE_LOCK, entries, freed_bytes, in_use
from slipway.system.locks import locked


def make(root: Path, key: str, size: int = 10, of: Checkpoint | None = None) -> Checkpoint | Quantized:
    store, cls = Store(root), Quantized if of else Checkpoint
    inputs = {"checkpoint": reference_to(of, store.root)} if of else {}
    with store.create(cls, key, {"stage": "test", "inputs": inputs, "key_format": 2}) as out:
        (out / "data").write_bytes(b"x" * size)
    return load(cls, store.dir(cls.kind, key))


def kinds(root: Path) -> dict[str, str]:
    return {entry.name: entry.what for entry in entries(root)}


def test_an_artifact_is_known_by_its_manifest(tmp_path: Path) -> None:
    base = make(tmp_path, "k1", 1000)
    assert isinstance(base, Checkpoint)
    make(tmp_path, "k2", of=base)
    one, two = entries(tmp_path)
    assert (one.what, one.name, one.digest, one.stage, one.key_format) == ("checkpoint", "k1", base.digest, "test", 2)
    assert one.is_artifact
    assert one.bytes == 1000 + (one.path / "manifest.json").stat().st_size
    assert (two.what, two.inputs) == ("quantized", (base.digest,))


def test_a_manifest_of_before_has_keys_of_format_1(tmp_path: Path) -> None:
    with Store(tmp_path).create(Checkpoint, "k", {"stage": "fetch"}) as out:
        (out / "data").write_text("x")
    assert entries(tmp_path)[0].key_format == 1


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"kind": "adapter", "key": "k", "digest": "d", "provenance": {}}',
        '{"kind": "checkpoint", "key": "other", "digest": "d", "provenance": {}}',
        '{"kind": "checkpoint", "key": "k", "digest": 3, "provenance": {}}',
        '{"kind": "checkpoint", "key": "k", "digest": "d", "provenance": []}',
        '{"kind": "checkpoint", "key": "k", "digest": "d", "provenance": {"inputs": {"a": 1}}}',
        '{"kind": "checkpoint", "key": "k", "digest": "d"}',
    ],
)
def test_a_folder_without_a_manifest_that_says_what_it_is_is_unknown(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "checkpoint/k").mkdir(parents=True)
    if manifest is not None:
        (tmp_path / "checkpoint/k/manifest.json").write_text(manifest)
    assert kinds(tmp_path) == {"k": "unknown"}


def test_every_place_has_its_forms_of_names_and_all_else_is_unknown(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "k9")
    for name in ("k.damaged-12", ".tmp-abc-34", "notes", "k.damaged-x", ".tmp-abc"):
        (tmp_path / "checkpoint" / name).mkdir(parents=True)
    (tmp_path / "checkpoint/file.txt").write_text("mine")
    (tmp_path / "checkpoint/k9").symlink_to(tmp_path / "elsewhere/checkpoint/k9")
    (tmp_path / "checkpoint/.tmp-link-1").symlink_to(tmp_path)
    for name in ("merge-0123456789abcdef", ".tmp-gc-merge-01234567-9", "mine"):
        (tmp_path / "work" / name).mkdir(parents=True)
    (tmp_path / "work/merge-0123456789abcdef.lock").touch()
    (tmp_path / "work/other.lock").touch()
    for name in ("services", "targets", "runs"):
        (tmp_path / name).mkdir()
    for name in ("last-run.json", USE_LOCK, "key-format.json"):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    assert kinds(tmp_path) == {
        "k.damaged-12": "damaged",
        ".tmp-abc-34": "half-written",
        "notes": "unknown",
        "k.damaged-x": "unknown",
        ".tmp-abc": "unknown",
        "file.txt": "unknown",
        "k9": "unknown",
        ".tmp-link-1": "unknown",
        "merge-0123456789abcdef": "work",
        ".tmp-gc-merge-01234567-9": "half-written",
        "mine": "unknown",
        "merge-0123456789abcdef.lock": "lock",
        "other.lock": "unknown",
        "photos": "unknown",
        "elsewhere": "unknown",
    }


def test_no_store_holds_nothing(tmp_path: Path) -> None:
    assert entries(tmp_path / "none") == []


def test_a_file_with_another_name_frees_nothing_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(b"x" * 100)
    (tmp_path / "a/two").write_bytes(b"x" * 50)
    os.link(tmp_path / "a/two", tmp_path / "release")
    (tmp_path / "big").write_bytes(b"x" * 1000)
    (tmp_path / "a/link").symlink_to(tmp_path / "big")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    assert freed_bytes(tmp_path / "a") == 100
    assert freed_bytes(tmp_path / "a/link") == 0


def test_a_store_in_use_is_not_cleaned_up_and_two_may_use_it(tmp_path: Path) -> None:
    busy = pytest.raises(ResourceError, match="busy")
    with in_use(tmp_path), in_use(tmp_path), busy, locked(tmp_path / USE_LOCK, 0.0, "gc"):
        pass
    with locked(tmp_path / USE_LOCK, 0.0, "gc"):
        pass
