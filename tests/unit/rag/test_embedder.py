"""A local embedder: vectors as transformers makes them, windows for what is too long, nothing silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from slipway.errors import CheckpointError
from slipway.rag.embedder import open_embedder
from tests.support.pico_embedder import LONGEST, pico_embedder

SHORT = "how do i sort a list?"


def pooled(model: BertModel, ids: list[int]) -> np.ndarray:
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        mean = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0].mean(0).numpy()
    return mean / np.linalg.norm(mean)


def test_a_vector_is_the_mean_of_transformers_hidden_states(tmp_path: Path) -> None:
    embedder = open_embedder(pico_embedder(tmp_path), tmp_path)
    model = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    expected = pooled(model, embedder.tokenizer.encode(SHORT).ids)
    assert np.abs(embedder.queries([SHORT])[0] - expected).max() < 1e-6


def test_a_long_text_is_the_mean_of_its_windows_weighted_by_tokens(tmp_path: Path) -> None:
    embedder = open_embedder(pico_embedder(tmp_path), tmp_path)
    model = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    ids = embedder.tokenizer.encode("how do i sort a list of names fast " * 3, add_special_tokens=False).ids
    room = LONGEST - 2
    windows = [ids[at : at + room] for at in range(0, len(ids), room)]
    assert [len(window) for window in windows] == [14, 13]
    mean = sum(len(window) * pooled(model, [1, *window, 2]) for window in windows)
    (got,) = embedder.passages(["how do i sort a list of names fast " * 3])
    assert np.abs(got - mean / np.linalg.norm(mean)).max() < 1e-6
    (cut,) = embedder.passages(["how do i sort a list of names fast how do i sort a"])
    assert np.abs(got - cut).max() > 1e-3, "the end of the text counts"


def test_a_vector_depends_on_its_text_alone(tmp_path: Path) -> None:
    embedder = open_embedder(pico_embedder(tmp_path), tmp_path)
    texts = [SHORT, "perl", "how " * 40, "", "what is a hash"]
    together = embedder.passages(texts)
    assert all((embedder.passages([text])[0] == row).all() for text, row in zip(texts, together, strict=True))
    assert np.allclose(np.linalg.norm(together, axis=1), 1)
    assert embedder.passages([]).shape == (0, 16)


def test_prefixes_are_part_of_what_is_embedded(tmp_path: Path) -> None:
    params = pico_embedder(tmp_path).model_copy(update={"query_prefix": "what ", "passage_prefix": "open "})
    embedder = open_embedder(params, tmp_path)
    plain = open_embedder(pico_embedder(tmp_path), tmp_path)
    assert (embedder.queries(["perl"]) == plain.queries(["what perl"])).all()
    assert (embedder.passages(["perl"]) == plain.queries(["open perl"])).all()


def test_a_model_that_lacks_a_weight_or_is_none_is_refused(tmp_path: Path) -> None:
    params = pico_embedder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    prefixed = {f"bert.{name}": tensor for name, tensor in tensors.items()}
    expected = open_embedder(params, tmp_path).queries([SHORT])
    save_file(prefixed, tmp_path / "model.safetensors")
    assert (open_embedder(params, tmp_path).queries([SHORT]) == expected).all()
    tensors.pop("encoder.layer.0.output.dense.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no encoder\.layer\.0\.output\.dense\.weight"):
        open_embedder(params, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="that transformers loads"):
        open_embedder(params, tmp_path)
