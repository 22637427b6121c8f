"""Packing: documents side by side that cannot see each other."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from slipway.errors import DataError
from slipway.training.packing import IGNORE, Example, collate, pack, tokenize
from tests.support.pico import pico_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("pico"))


def row(question: str, answer: str) -> dict:
    return {
        "id": question,
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
    }


def test_the_completion_is_the_answer_and_its_end_of_turn(directory):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    (example,) = tokenize([row("on", "{}")], tokenizer, 64)
    assert tokenizer.decode(example.tokens[example.completion :]) == "{}<|im_end|>\n"


def test_a_row_longer_than_a_pack_is_refused_by_name(directory):
    with pytest.raises(DataError, match=r"row on: 25 tokens; expected at most train.pack_length=8"):
        tokenize([row("on", "{}")], AutoTokenizer.from_pretrained(directory), 8)


def test_packs_hold_every_row_once_and_never_overflow():
    examples = [Example([7] * n, 1) for n in (30, 20, 50, 64, 1, 10, 33)]
    packs = pack(examples, 64, seed=3)
    assert sorted(i for p in packs for i in p) == list(range(len(examples)))
    assert all(sum(len(examples[i].tokens) for i in p) <= 64 for p in packs)
    assert packs == pack(examples, 64, seed=3) != pack(examples, 64, seed=4)


def test_labels_positions_and_mask_of_two_documents_by_hand():
    batch = collate([[Example([5, 6, 7], 1), Example([8, 9], 1)], [Example([4, 3], 1)]], pad=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert batch.positions[0].tolist() == [0, 1, 2, 0, 1]
    assert batch.labels.tolist() == [[6, 7, IGNORE, 9, IGNORE], [3, IGNORE, IGNORE, IGNORE, IGNORE]]
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert batch.mask[1, 0, 2:].int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert (batch.tokens, batch.label_tokens) == (7, 4)


def logits(model, batch):
    return model(
        input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).logits


@torch.no_grad()
def test_no_leak_a_packed_document_computes_what_it_computes_alone(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    random = torch.Generator().manual_seed(0)
    first, other, last = ([int(t) for t in torch.randint(3, 300, (n,), generator=random)] for n in (17, 17, 11))
    packed = logits(model, collate([[Example(first, 1), Example(last, 1)]], 0))[0, 17:]
    after_another = logits(model, collate([[Example(other, 1), Example(last, 1)]], 0))[0, 17:]
    alone = logits(model, collate([[Example(last, 1)]], 0))[0]
    assert torch.equal(packed, after_another)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_leak_probe_can_fail(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    batch = collate([[Example([9, 9, 9], 1), Example([5, 6], 1)]], 0)
    leaking = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    seen = model(
        input_ids=batch.input_ids, attention_mask=leaking, position_ids=batch.positions, use_cache=False
    ).logits
    assert not torch.allclose(seen[0, 3:], logits(model, batch)[0, 3:], atol=1e-3)
