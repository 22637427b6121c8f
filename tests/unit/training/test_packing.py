"""Packing: documents side by side that cannot see each other."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from slipway.data.labels import LabelledRow
from slipway.training.packing import IGNORE, collate, pack, packed_tokens, shared_beginning, split_pack
from tests.support.pico import pico_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("pico"))


def example(tokens: list[int], completion: int) -> LabelledRow:
    """A row of which everything from `completion` on is learnt."""
    return LabelledRow(tokens, ((completion, len(tokens)),))


def test_packs_hold_every_row_once_and_never_overflow():
    examples = [example([7] * n, 1) for n in (30, 20, 50, 64, 1, 10, 33)]
    packs = pack(examples, 64, seed=3)
    assert sorted(i for p in packs for i in p) == list(range(len(examples)))
    assert all(packed_tokens([examples[i] for i in p]) <= 64 for p in packs)
    assert packs == pack(examples, 64, seed=3) != pack(examples, 64, seed=4)


def test_what_the_rows_begin_with_leaves_room_for_more_of_them():
    system = list(range(100, 120))
    alike = [example([*system, 1 + n, 2, 3], 21) for n in range(10)]
    assert len(pack(alike, 40, seed=0)) == 1, "20 shared tokens and 2 inputs of each of 10 rows are 40"
    assert len(pack(alike, 39, seed=0)) == 2
    others = [example([50 + n, *system, 2, 3], 21) for n in range(10)]
    assert len(pack(others, 46, seed=0)) == 5, "nothing is shared: 22 inputs a row, two rows a pack"


def test_only_tokens_before_the_first_prediction_of_a_label_are_shared():
    assert shared_beginning([example([5, 6, 7, 8], 2), example([5, 6, 7, 9], 3)]) == 1
    assert shared_beginning([example([5, 6, 7, 8], 3), example([5, 4, 7, 9], 3), example([5, 6, 7, 9], 3)]) == 1
    assert shared_beginning([example([5, 6, 7, 8], 3)]) == 0


def test_labels_positions_and_mask_of_two_documents_by_hand():
    batch = collate([[example([5, 6, 7], 1), example([8, 9], 1)], [example([4, 3], 1)]], pad=0)
    assert batch.input_ids.tolist() == [[5, 6, 8], [4, 0, 0]]
    assert batch.positions[0].tolist() == [0, 1, 0]
    assert batch.labels.tolist() == [[6, 7, 9], [3, IGNORE, IGNORE]]
    assert batch.mask[0, 0].int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert batch.mask[1, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert (batch.tokens, batch.label_tokens) == (7, 4)


def test_a_shared_beginning_stands_once_and_every_document_attends_to_it():
    batch = collate([[example([1, 2, 5, 6, 7], 4), example([1, 2, 8, 9], 3)]], pad=0)
    assert batch.input_ids.tolist() == [[1, 2, 5, 6, 8]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 2]]
    assert batch.labels.tolist() == [[IGNORE, IGNORE, IGNORE, 7, 9]]
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert (batch.tokens, batch.label_tokens) == (9, 2)


def test_two_answers_of_one_document_are_labels_and_what_lies_between_is_not():
    batch = collate([[LabelledRow([1, 2, 3, 4, 5, 6], ((1, 3), (5, 6)))]], pad=0)
    assert batch.labels.tolist() == [[2, 3, IGNORE, IGNORE, 6]] and batch.label_tokens == 3


def logits(model, batch):
    return model(
        input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).logits


def tokens(count, seed):
    random = torch.Generator().manual_seed(seed)
    return [int(t) for t in torch.randint(3, 300, (count,), generator=random)]


@torch.no_grad()
def test_no_leak_a_packed_document_computes_what_it_computes_alone(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    first, other, last = tokens(17, 0), tokens(17, 1), tokens(11, 2)
    packed = logits(model, collate([[example(first, 1), example(last, 1)]], 0))[0, 16:]
    after_another = logits(model, collate([[example(other, 1), example(last, 1)]], 0))[0, 16:]
    alone = logits(model, collate([[example(last, 1)]], 0))[0]
    assert torch.equal(packed, after_another)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_documents_with_a_shared_beginning_compute_what_they_compute_alone(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    system = tokens(9, 0)
    documents = [example([*system, *tokens(n, n)], 9 + n // 2) for n in (12, 5, 8)]
    batch = collate([documents], 0)
    assert batch.input_ids.shape == (1, 9 + 11 + 4 + 7)
    packed = logits(model, batch)[0]
    at = 9
    for document in documents:
        alone = logits(model, collate([[document]], 0))[0]
        own = len(document.inputs) - 9
        torch.testing.assert_close(packed[at : at + own], alone[9:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed[:9], alone[:9], atol=1e-5, rtol=1e-5)
        at += own


@torch.no_grad()
def test_the_leak_probe_can_fail(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    batch = collate([[example([9, 9, 9, 9], 1), example([5, 6, 7], 1)]], 0)
    leaking = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    leaked = model(
        input_ids=batch.input_ids, attention_mask=leaking, position_ids=batch.positions, use_cache=False
    ).logits
    assert not torch.allclose(leaked[0, 3:], logits(model, batch)[0, 3:], atol=1e-3)


def test_a_pack_is_split_into_parts_of_nearly_equal_length():
    rows = [example([7] * n, 1) for n in (31, 11, 21, 16, 5)]
    assert split_pack(rows, [4, 2, 0, 1, 3], 2) == [[0, 1], [4, 2, 3]], "40 and 39 inputs, rows in the pack's order"
    assert split_pack(rows, [3], 2) == [[3]] and split_pack(rows, [3, 1], 1) == [[3, 1]]
    assert sorted(i for part in split_pack(rows, range(5), 3) for i in part) == list(range(5))
