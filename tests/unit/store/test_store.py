"""The store: complete or absent, damaged is absent, and digests that name bytes."""

import errno
import json
import os

import pytest

from slipway.errors import ResourceError, SlipwayError
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import Store, load, verify
from slipway.system.files import sha256_bytes


def make(store, key="k1", text="hello", cls=Checkpoint):
    with store.create(cls, key, {"stage": "test"}) as out:
        (out / "sub").mkdir()
        (out / "sub/a.txt").write_text(text)
    return store.find(cls, key)


def test_a_finished_directory_becomes_an_artifact_with_a_stable_digest(tmp_path):
    one, two = make(Store(tmp_path / "1")), make(Store(tmp_path / "2"), key="k2")
    assert one.digest == two.digest != make(Store(tmp_path / "3"), text="hellO").digest
    assert one.manifest["files"] == [{"path": "sub/a.txt", "size": 5, "sha256": sha256_bytes(b"hello")}]


def test_an_error_inside_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.create(Checkpoint, "k", {}) as out:
        (out / "half").write_text("x")
        _ = 1 / 0
    assert store.find(Checkpoint, "k") is None
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_a_directory_without_a_manifest_does_not_exist(tmp_path):
    store = Store(tmp_path)
    make(store).path.joinpath("manifest.json").unlink()
    assert store.find(Checkpoint, "k1") is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "sub/a.txt").write_text("hellp"), "another sha256"),
        (lambda p: (p / "sub/a.txt").write_text("hell"), "has 4 bytes, manifest says 5"),
        (lambda p: (p / "sub/a.txt").unlink(), "is missing"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest unreadable"),
    ],
)
def test_damage_is_a_miss_with_a_warning(tmp_path, damage, message):
    store = Store(tmp_path)
    damage(make(store).path)
    with pytest.warns(UserWarning, match=message):
        assert store.find(Checkpoint, "k1") is None
    assert make(store) is not None


def test_a_tampered_manifest_is_damage(tmp_path):
    artifact = make(Store(tmp_path))
    doc = artifact.manifest
    doc["digest"] = "0" * 64
    (artifact.path / "manifest.json").write_text(json.dumps(doc))
    assert "digest" in verify(artifact.path)


def test_another_kind_is_refused(tmp_path):
    with pytest.raises(SlipwayError, match=r"checkpoint; expected adapter"):
        load(Adapter, make(Store(tmp_path)).path)


def test_a_full_disk_names_the_place_and_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"disk: full while writing .*GB free.*finished stages are kept"):
        make(store)
    assert list((tmp_path / "checkpoint").iterdir()) == []
