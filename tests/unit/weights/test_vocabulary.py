"""Embedding and head of a merge: tied where both change alike, else two tensors and a config that says so."""

import json

import pytest
import torch

from slipway.errors import AdapterError
from slipway.weights.base_names import BaseNames
from slipway.weights.computed import InMemory
from slipway.weights.model_config import read_config
from slipway.weights.shards import Shards
from slipway.weights.updates import Product, Replacement, TokenRows
from slipway.weights.vocabulary import Vocabulary, equal, replaced, settle
from tests.support.pico import pico_model

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
one, other = torch.randn(384, 64), torch.randn(384, 64)
a, b = torch.randn(4, 384), torch.randn(64, 4)
TENSORS = InMemory(
    {"one": one, "same": one.clone(), "other": other, "long": torch.randn(400, 64), "long2": torch.randn(400, 64),
     "a": a, "b": b, "head_a": b.T, "head_b": a.T, "row": one[:1], "row2": other[:1]}, "adapter"
)  # fmt: skip
ON_EMBEDDING = Product("model.embed_tokens", "a", "b", 1.0, embedding=True)
ON_HEAD = Product("lm_head", "head_a", "head_b", 1.0)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    def base(tied):
        directory = pico_model(tmp_path_factory.mktemp("base"), tied=tied, layers=1)
        return BaseNames(Shards.open(directory), read_config(directory))

    return {tied: base(tied) for tied in (True, False)}


APART = {
    "the embedding alone": {EMBEDDING: Replacement("one")},
    "the head alone": {HEAD: Replacement("one")},
    "both, different": {EMBEDDING: Replacement("one"), HEAD: Replacement("other")},
    "a pair on the embedding": {EMBEDDING: ON_EMBEDDING},
    "a pair on the head": {HEAD: ON_HEAD},
    "pairs that differ": {EMBEDDING: ON_EMBEDDING, HEAD: Product("lm_head", "head_a", "head_b", 2.0)},
    "a pair and a tensor": {EMBEDDING: ON_EMBEDDING, HEAD: Replacement("other")},
    "other rows at the same token": {EMBEDDING: TokenRows("row", (3,)), HEAD: TokenRows("row2", (3,))},
}
TOGETHER = {
    "both, equal": {EMBEDDING: Replacement("one"), HEAD: Replacement("same")},
    "pairs that are transposes": {EMBEDDING: ON_EMBEDDING, HEAD: ON_HEAD},
    "rows of the embedding": {EMBEDDING: TokenRows("row", (3,))},
    "the same rows of both": {EMBEDDING: TokenRows("row", (3,)), HEAD: TokenRows("row", (3,))},
}


@pytest.mark.parametrize("updates", APART.values(), ids=APART.keys())
def test_a_head_that_changes_otherwise_than_its_embedding_becomes_a_tensor(bases, updates):
    result = settle(bases[True], updates, TENSORS)
    assert result.untied == {HEAD: EMBEDDING} and result.updates == updates and result.rows is None
    assert result.changed({"tie_word_embeddings": True, "a": 1}) == {"tie_word_embeddings": False, "a": 1}


@pytest.mark.parametrize("updates", TOGETHER.values(), ids=TOGETHER.keys())
def test_a_head_that_changes_like_its_embedding_stays_tied(bases, updates):
    result = settle(bases[True], updates, TENSORS)
    assert result == Vocabulary({EMBEDDING: updates[EMBEDDING]})
    assert result.changed({"tie_word_embeddings": True}) == {"tie_word_embeddings": True}


def test_what_is_not_tied_stays_so(bases):
    updates = {EMBEDDING: Replacement("one")}
    assert settle(bases[False], updates, TENSORS) == Vocabulary(updates)


def test_a_longer_vocabulary_is_said_where_the_config_keeps_it(bases):
    both = {EMBEDDING: Replacement("long"), HEAD: Replacement("long2")}
    for tied in (True, False):
        result = settle(bases[tied], both, TENSORS)
        assert result.rows == 400
        assert result.changed({"vocab_size": 384})["vocab_size"] == 400
    nested = result.changed({"text_config": {"vocab_size": 384, "x": 1}})
    assert nested == {"text_config": {"vocab_size": 400, "x": 1}}
    untied = settle(bases[True], {EMBEDDING: Replacement("one")}, TENSORS).changed({"text_config": {"x": 1}})
    assert json.dumps(untied) == '{"text_config": {"x": 1, "tie_word_embeddings": false}, "tie_word_embeddings": false}'


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_and_a_head_of_other_lengths_are_refused(bases, tied):
    with pytest.raises(AdapterError, match=r"embed_tokens\.weight of the merge: 400 rows, and 384 in lm_head"):
        settle(bases[tied], {EMBEDDING: Replacement("long")}, TENSORS)


def test_rows_of_a_tied_head_alone_are_refused(bases):
    with pytest.raises(AdapterError, match=r"adapter tensor row: trained tokens of a head that is the embedding"):
        settle(bases[True], {HEAD: TokenRows("row", (3,))}, TENSORS)


def test_tensors_are_compared_byte_by_byte():
    assert equal(TENSORS, "one", "same") and not equal(TENSORS, "one", "other") and not equal(TENSORS, "one", "long")
    assert (replaced(Replacement("one")), replaced(ON_HEAD), replaced(None)) == ("one", None, None)
