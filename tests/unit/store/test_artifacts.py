"""Artifacts are values: what they say of themselves and of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from slipway.store.artifacts import Adapter, Artifact, Checkpoint


def test_kinds_differ_and_name_the_folders_of_the_store() -> None:
    kinds = {cls.kind for cls in Artifact.__subclasses__()}
    assert kinds == {
        "dataset",
        "checkpoint",
        "adapter",
        "quantized",
        "engine",
        "evaluation",
        "reference",
        "verdict",
        "corpus",
        "chunks",
        "vectors",
        "index",
        "retrieval",
        "choice",
    }


def test_an_artifact_is_frozen() -> None:
    adapter = Adapter(uri="/store/adapter/k", digest="d", key="k")
    with pytest.raises(ValidationError):
        adapter.digest = "other"
    assert adapter.path == Path("/store/adapter/k")


def test_documents_are_read_from_its_directory_and_a_summary_may_be_absent(tmp_path: Path) -> None:
    manifest = {"kind": "checkpoint", "digest": "d", "key": "k", "files": [], "provenance": {"stage": "fetch"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    checkpoint = Checkpoint(uri=str(tmp_path), digest="d")
    assert checkpoint.manifest == manifest
    assert checkpoint.summary == {}
    (tmp_path / "summary.json").write_text('{"tensors": 3}')
    assert checkpoint.summary == {"tensors": 3}
