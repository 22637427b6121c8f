"""Stage `embed`: vectors once for each text, the same bytes after a kill, few after a small change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slipway.errors import DataError
from slipway.rag import vector_cache
from slipway.rag.vector_cache import VectorCache
from tests.support.rag_stages import chain


def test_vectors_are_of_length_one_with_what_made_them(tmp_path: Path) -> None:
    made = chain(tmp_path).vectors()
    vectors = np.load(made.path / "vectors.npy")
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1) and vectors.dtype == np.float32
    facts = made.read_json("embedder.json")
    assert (facts["dimension"], facts["max_length"], len(facts["digest"])) == (16, 16, 64)
    assert made.summary["means_of_windows"] > 0, "chunks of 24 tokens are longer than the embedder's 14"
    assert made.summary["embedded_tokens"] > len(vectors)


def test_a_changed_document_embeds_only_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = chain(tmp_path, documents=100)
    before = one.vectors()
    counts: list[int] = []
    keep = VectorCache._keep
    monkeypatch.setattr(
        VectorCache, "_keep", lambda self, keys, rows: (counts.append(len(keys)), keep(self, keys, rows))
    )
    lines = (tmp_path / "data/documents.jsonl").read_text().splitlines()
    changed = json.loads(lines[7])
    lines[7] = json.dumps({**changed, "text": changed["text"] + "One more sentence is how do i sort."})
    (tmp_path / "data/documents.jsonl").write_text("\n".join(lines) + "\n")
    after = one.vectors()
    assert after.digest != before.digest
    assert 0 < sum(counts) <= 0.02 * after.summary["vectors"]


def test_a_killed_stage_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "SHARD", 8)
    whole = chain(tmp_path / "whole").vectors()
    killed, keep, kept = chain(tmp_path / "killed"), VectorCache._keep, []

    def dies(self, keys, rows) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(len(keys))
        keep(self, keys, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VectorCache, "_keep", dies)
        killed.vectors()
    assert not list((tmp_path / "killed/store/vectors").glob("*"))
    resumed = killed.vectors()
    assert resumed.digest == whole.digest


def test_a_vector_that_is_none_ends_the_stage_with_its_text(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    one = chain(tmp_path)
    tensors = load_file(tmp_path / "model/model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, tmp_path / "model/model.safetensors")
    with pytest.raises(DataError, match="vector of 'The word0sort"):
        one.vectors()
