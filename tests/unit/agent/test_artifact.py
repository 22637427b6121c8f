"""Artifacts as a target checks them: the same digest as the store's, every damage by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent.artifact import digest_of, listed_files, require_intact
from slipway.errors import CheckpointError, StateError
from slipway.store import store as stores
from slipway.store.store import Store
from tests.support.agent import engine


def test_the_digest_is_the_store_s(store: Store) -> None:
    made = engine(store)
    files = stores.list_files(made.path)
    assert digest_of("engine", files) == stores.digest_of("engine", files) == made.digest
    assert listed_files(made.path) == files
    require_intact(made.path, made.digest, "engine x")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.gguf").write_bytes(b""), "model.gguf has 0 bytes"),
        (lambda folder: (folder / "model.gguf").unlink(), "model.gguf is missing"),
        (lambda folder: flip(folder / "server"), "server has another sha256"),
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest unreadable"),
        (lambda folder: change(folder, lambda doc: doc["files"].pop()), "its digest does not match"),
    ],
)
def test_a_damage_is_named(store: Store, damage, message: str) -> None:
    made = engine(store)
    damage(made.path)
    with pytest.raises(CheckpointError, match=f"engine x: .*{message}"):
        require_intact(made.path, made.digest, "engine x")


def test_another_artifact_is_not_taken(store: Store) -> None:
    with pytest.raises(CheckpointError, match="digest "):
        require_intact(engine(store).path, engine(store, 2).digest, "engine x")


def test_a_file_outside_of_the_artifact_is_refused(store: Store) -> None:
    folder = engine(store).path

    def outside(document: dict) -> None:
        document["files"][0]["path"] = "../x"
        document["digest"] = digest_of("engine", document["files"])

    change(folder, outside)
    with pytest.raises(StateError, match=r"path \.\./x"):
        listed_files(folder)


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def change(folder: Path, edit) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    edit(document)
    (folder / "manifest.json").write_text(json.dumps(document))
